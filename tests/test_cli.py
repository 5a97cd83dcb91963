"""The command line: exit codes, one clear sentence for a mistake, and no traceback."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import zarr
from scipy import ndimage

import chunkfilt as cf
from chunkfilt.errors import UnfinishedWarning
from chunkfilt.filters.filter import registered
from chunkfilt.filters.generic import allow_code_always

JOB = "version: 1\ninput: in.zarr\nsteps: [{maximum: {size: 3}}]\noutput: out.zarr\n"


def pixels(path):
    return zarr.open_array(str(path))[:]


def test_run(cli, make_job, make_pixels, tmp_path):
    code, out, err = cli("run", make_job(JOB))
    assert code == 0
    assert "out.zarr" in out
    assert "Mpx/s" in out
    assert "pass 1 of 1" in err
    expected = ndimage.maximum_filter(make_pixels((40, 50)), 3)
    np.testing.assert_array_equal(pixels(tmp_path / "out.zarr"), expected)


def test_run_with_options(cli, make_job, tmp_path):
    job = make_job(JOB)
    code, _, _ = cli("run", job, "--set", "steps.0.maximum.size=5", "--set", "output.path=b.zarr",
                     "--scheduler", "serial", "--workers", "1", "--memory", "8 GiB")  # fmt: skip
    assert code == 0
    expected = ndimage.maximum_filter(pixels(tmp_path / "in.zarr"), 5)
    np.testing.assert_array_equal(pixels(tmp_path / "b.zarr"), expected)
    record = zarr.open_array(str(tmp_path / "b.zarr")).attrs["chunkfilt"]
    assert record["job"]["steps"] == [{"maximum": {"size": 5}}]


def test_run_json_is_one_object_a_line(cli, make_job, tmp_path):
    code, out, _ = cli("run", make_job(JOB), "--json")
    assert code == 0
    events = [json.loads(line) for line in out.splitlines()]
    # A machine's first run compiles, and says so.
    told = [event for event in events if event["event"] != "CompileStarted"]
    assert [event["event"] for event in told][:2] == ["RunStarted", "PassStarted"]
    assert (told[0]["path"], told[0]["passes"]) == (str(tmp_path / "out.zarr"), 1)
    assert told[1]["resumed"] == 0
    assert events[-1]["event"] == "RunFinished"
    assert len(events[-1]["checksums"]) == 1


@pytest.mark.parametrize("form", ["out.zarr", "{path: out.zarr}"])
def test_overwrite(cli, mistake, make_job, tmp_path, form):
    job = make_job(JOB.replace("output: out.zarr", f"output: {form}"))
    assert cli("run", job)[0] == 0
    assert "exists" in mistake("run", job)
    assert cli("run", job, "--set", "steps.0.maximum.size=1", "--overwrite")[0] == 0
    np.testing.assert_array_equal(pixels(tmp_path / "out.zarr"), pixels(tmp_path / "in.zarr"))


@pytest.mark.parametrize("words", [["plan"], ["run", "--dry-run"]])
def test_a_plan_writes_nothing(cli, make_job, tmp_path, words):
    job = make_job(JOB)
    before = sorted(tmp_path.rglob("*"))
    code, out, _ = cli(words[0], job, *words[1:])
    assert code == 0
    for word in ("image", "block", "peak memory", "40 y x 50 x", "pass 1 of 1"):
        assert word in out
    code, out, _ = cli(words[0], job, *words[1:], "--json", "--memory", "8 GiB")
    assert code == 0
    plan = json.loads(out)
    assert (plan["shape"], plan["budget"], plan["axes"]) == ([40, 50], 8 << 30, ["y", "x"])
    assert sorted(tmp_path.rglob("*")) == before


def test_apply(cli, tmp_path):
    assert cli("apply", "gaussian", "in.zarr", "g.zarr", "--sigma", "[1, 2]", "--mode=wrap",
               "--dtype", "float64", "--workers", "1")[0] == 0  # fmt: skip
    expected = ndimage.gaussian_filter(pixels("in.zarr").astype(float), (1, 2), mode="wrap")
    np.testing.assert_allclose(pixels("g.zarr"), expected, rtol=1e-6)
    assert cli("apply", "clip", "in.zarr", "c.zarr", "--min", "-5", "--max", "1e3")[0] == 0
    np.testing.assert_array_equal(pixels("c.zarr"), pixels("in.zarr").clip(0, 1000))
    code, out, _ = cli("apply", "statistics", "in.zarr", "s.zarr")
    assert code == 0
    assert json.loads(out[out.index("{") :])["max"] == pixels("in.zarr").max()


def test_info(cli, make_job, tmp_path):
    cli("run", make_job(JOB))
    code, out, _ = cli("info", "out.zarr")
    assert code == 0
    for word in ("40 y x 50 x, uint16, 3.9 KiB", "chunks 16 x 16", "finished", "checksum"):
        assert word in out
    assert "UNFINISHED" not in out
    code, out, _ = cli("info", "out.zarr", "--json")
    held = json.loads(out)
    assert code == 0
    assert held["arrays"][0]["shape"] == [40, 50]
    assert held["arrays"][0]["chunks"] == [16, 16]
    assert held["run"]["finished"] is True
    code, out, _ = cli("info", "in.zarr")
    assert (code, "written by" in out) == (0, False)


def test_info_of_a_group_with_values_and_tables(cli, make_job):
    steps = "[{mean: {}, name: m}, {histogram: {nbins: 9000}, input: source, name: h}, statistics]"
    cli("run", make_job(f"version: 1\ninput: in.zarr\nsteps: {steps}\n"
                        "output: {path: out.zarr, save: [m, h, statistics]}\n"))  # fmt: skip
    code, out, err = cli("info", "out.zarr")
    assert (code, err) == (0, "")
    assert "m: 40 y x 50 x, float32" in out
    assert "statistics: " in out


@pytest.mark.parametrize("note", [3, {}, {"finished": True}, {"versions": 3}, {"versions": {}}])
def test_info_of_a_store_with_an_attribute_of_our_name(cli, make_store, tmp_path, note):
    make_store(tmp_path / "a", np.zeros((4, 5)), attributes={"chunkfilt": note})
    code, out, _ = cli("info", "a")
    assert (code, "written by" in out) == (0, False)


def test_filters(cli):
    code, out, _ = cli("filters")
    assert code == 0
    listed = [line.split()[0] for line in out.splitlines() if line.startswith("  ")]
    assert sorted(listed) == sorted(registered())
    assert "Values of the whole image\n  extrema " in out
    families = json.loads(cli("filters", "--json")[1])
    assert "gaussian" in families["Weighted smoothing"]
    code, out, _ = cli("filters", "gaussian")
    assert code == 0
    assert out.startswith("gaussian(image, ")
    assert "standard deviation" in out.lower()
    shown = json.loads(cli("filters", "gaussian", "--json")[1])
    assert "sigma" in shown["parameters"]
    assert shown["gives"]["float32"][0] == "bool"


@pytest.mark.parametrize("name", list(registered()))
def test_every_filter_can_be_shown(cli, name):
    code, out, _ = cli("filters", name)
    assert code == 0
    assert out.startswith(f"{name}(")


def test_preview(cli, make_job):
    image = pytest.importorskip("PIL.Image")
    job = make_job(JOB)
    for words in (
        [job], ["in.zarr"], [job, "--region", "y=0:9, x=3:30"], [job, "--whole", "--size", "20"],
        ["in.zarr", "--window"], [job, "--region", "y=5"],
    ):  # fmt: skip
        code, out, _ = cli("preview", *words, "--out", "p.png")
        assert code == 0
        assert out.startswith("p.png: ")
        with image.open("p.png") as picture:
            assert picture.format == "PNG"


def test_schema(cli, tmp_path):
    code, out, _ = cli("schema")
    assert code == 0
    schema = json.loads(out)
    assert schema["properties"]["version"] == {"const": 1}
    code, out, _ = cli("schema", "--out", tmp_path / "s.json")
    assert code == 0
    assert "yaml-language-server: $schema=s.json" in out
    assert json.loads((tmp_path / "s.json").read_text()) == schema


def test_demo(cli):
    pytest.importorskip("skimage")
    pytest.importorskip("matplotlib")
    code, out, _ = cli("demo", "d", "--size", "256")
    assert code == 0
    for line in out.splitlines():
        name, _, path = line.partition(": ")
        assert name
        assert cli("info", path)[0] == 0


def test_help(cli):
    code, out, _ = cli("--help")
    assert code == 0
    for name in ("run", "plan", "apply", "verify", "compare", "rerun", "info", "filters",
                 "preview", "schema", "demo"):  # fmt: skip
        assert name in out
        assert cli(name, "--help")[0] == 0
    assert cli()[0] in (0, 2)


MISTAKES = [
    (["nonsense"], "nonsense"),
    (["run"], "JOB.yaml"),
    (["run", "nowhere.yaml"], "no such file"),
    (["run", "."], "no such file"),
    (["run", "job.yaml", "--nonsense"], "--nonsense"),
    (["run", "job.yaml", "--workers", "two"], "--workers"),
    (["run", "job.yaml", "--workers", "0"], "workers must be >= 1"),
    (["run", "job.yaml", "--scheduler", "dask"], "scheduler must be one of"),
    (["run", "job.yaml", "--memory", "lots"], "a size such as"),
    (["run", "job.yaml", "--memory", "1 MB"], "the smallest block"),
    (["run", "job.yaml", "--set", "nonsense"], "PATH=VALUE"),
    (["run", "job.yaml", "--set", "output.chunks=[4, 4, 4]"], "output chunks must be 2 numbers"),
    (["run", "job.yaml", "--set", "output.path=in.zarr", "--overwrite"], "the input"),
    (["run", "job.yaml", "--set", "run.address=tcp://127.0.0.1:1"], "address goes with"),
    (["plan", "broken.yaml"], "broken.yaml:3:"),
    (["run", "broken.yaml", "--json"], "broken.yaml:3:"),
    (["apply", "gausian", "in.zarr", "o.zarr"], "did you mean 'gaussian'"),
    (["apply", "gaussian", "nowhere", "o.zarr"], "no such file or folder"),
    (["apply", "gaussian", "in.zarr", "in.zarr"], "the input"),
    (["apply", "gaussian", "in.zarr", "o.zarr", "--sigm", "3"], "did you mean 'sigma'"),
    (["apply", "gaussian", "in.zarr", "o.zarr", "--sigma", "-3"], "sigma must be >= 0"),
    (["apply", "gaussian", "in.zarr", "o.zarr", "--sigma"], "needs a value"),
    (["apply", "gaussian", "in.zarr", "o.zarr", "3"], "given as --name value"),
    (["apply", "gaussian", "in.zarr", "o.zarr", "--sigma", "[1"], "--sigma"),
    (["apply", "gaussian", "in.zarr", "o.zarr", "--sigma", "!x 3"], "tags"),
    (["apply", "gaussian", "in.zarr", "o.zarr", "--memory", "x"], "memory"),
    (["apply", "add", "in.zarr", "o.zarr"], "add takes"),
    (["apply", "cast", "in.zarr", "o.zarr"], "dtype is required"),
    (["info", "nowhere.zarr"], "no such file or folder"),
    (["info", "job.yaml"], "not a Zarr store"),
    (["verify", "nowhere.zarr"], "no such file or folder"),
    (["verify", "in.zarr"], "was not written by chunkfilt"),
    (["verify", "job.yaml", "--repair"], "not a Zarr store"),
    (["verify", "in.zarr", "--workers", "x"], "--workers"),
    (["compare", "in.zarr"], "B"),
    (["compare", "in.zarr", "nowhere.zarr"], "no such file or folder"),
    (["rerun", "nowhere.zarr"], "no such file or folder"),
    (["rerun", "in.zarr"], "was not written by chunkfilt"),
    (["run", "job.yaml", "--log-file", "no/folder/log"], "cannot write the log"),
    (["run", "job.yaml", "--log-file", "."], "cannot write the log"),
    (["filters", "gausian"], "did you mean 'gaussian'"),
    (["preview", "job.yaml"], "--out"),
    (["preview", "job.yaml", "--out", "no/folder/p.png"], "cannot write"),
    (["preview", "job.yaml", "--out", "."], "cannot write"),
    (["preview", "job.yaml", "--out", "p.png", "--region", "y=a:b"], "--region takes"),
    (["preview", "job.yaml", "--out", "p.png", "--region", "w=0:5"], "no axis 'w'"),
    (["preview", "job.yaml", "--out", "p.png", "--region", "size=0:5"], "no axis 'size'"),
    (["preview", "job.yaml", "--out", "p.png", "--region", "nonsense"], "--region takes"),
    (["preview", "job.yaml", "--out", "p.png", "--size", "1"], "--size"),
    (["preview", "job.yaml", "--out", "p.png", "--whole", "--region", "y=0:5"], "without ranges"),
    (["preview", "group.yaml", "--out", "p.png", "--array", "nope"], "saves no 'nope'"),
    (["preview", "group.yaml", "--out", "p.png", "--array", "statistics"], "statistics"),
    (["preview", "nowhere.zarr", "--out", "p.png"], "no such file"),
    (["preview", "in.zarr", "--out", "a" * 300], "--out"),
    (["preview", "s3://bucket/a.zarr", "--out", "p.png"], "local path"),
    (["apply", "mean", "s3://bucket/a.zarr", "o.zarr"], "local path"),
    (["apply", "mean", "in.zarr", "s3://bucket/a.zarr"], "local path"),
    (["schema", "--out", "."], "cannot write"),
    (["demo", "job.yaml/sub", "--size", "256"], "job.yaml"),
    (["demo", "a" * 300, "--size", "256"], "demo's folder"),
    (["schema", "--out", "no/folder/s.json"], "s.json"),
    (["demo", "job.yaml", "--size", "256"], "job.yaml"),
    (["demo", "d", "--size", "3"], "--size"),
    (["run", "a" * 5000], "a"),
    (["info", "a" * 5000], "a"),
]


@pytest.mark.parametrize(
    ("words", "said"), MISTAKES, ids=[" ".join(words)[:60] for words, _ in MISTAKES]
)
def test_mistakes(mistake, make_job, tmp_path, words, said):
    make_job(JOB)
    make_job("version: 1\ninput: [in.zarr\n", "broken.yaml")
    make_job("version: 1\ninput: in.zarr\nsteps: [mean, statistics]\n"
             "output: {path: o, save: [mean, statistics]}\n", "group.yaml")  # fmt: skip
    before = sorted(tmp_path.rglob("*"))
    assert said in mistake(*words)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_damaged_chunk_is_a_failure_of_the_run(cli, make_job, tmp_path):
    (tmp_path / "in.zarr" / "c" / "0" / "1").write_bytes(b"damage")
    code, _, err = cli("run", make_job(JOB))
    assert code == 3
    assert "cannot read chunk c/0/1 of " in err.splitlines()[-2]
    assert "in.zarr" in err.splitlines()[-2]
    assert err.splitlines()[-1].startswith("to go on:  chunkfilt run ")
    assert err.splitlines()[-1].endswith("job.yaml --resume")
    code, out, _ = cli("info", "out.zarr")
    assert (code, "UNFINISHED" in out) == (0, True)


def test_an_unfinished_input_is_named_on_stderr(cli, make_store, make_job, tmp_path):
    attributes = {"chunkfilt": {"finished": False}}
    make_store(tmp_path / "half.zarr", np.ones((4, 5)), attributes=attributes)
    code, _, err = cli("run", make_job(JOB.replace("in.zarr", "half.zarr")))
    assert code == 0
    assert "chunkfilt: warning: " in err
    assert "half.zarr is unfinished" in err


def start(*words, **options):
    # Where the tests run in the background, children would inherit that SIGINT is ignored.
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
    code += "from chunkfilt.cli import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, words)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options,
    )  # fmt: skip


def test_real_processes(mosaic, tmp_path, make_job):
    job = make_job(JOB)
    for words, code in [
        (["run", job], 0), (["run", job], 2), (["run", tmp_path / "no.yaml"], 2), (["nonsense"], 2),
    ]:  # fmt: skip
        process = start(*words, cwd=tmp_path)
        _, err = process.communicate(timeout=120)
        assert process.returncode == code, err
        assert "Traceback" not in err
        assert "Warning" not in err


def test_the_module_is_a_command(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "chunkfilt", "nonsense"],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("chunkfilt: ")


def test_a_closed_pipe_is_no_traceback():
    process = start("schema")
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait(120) in (0, 1)
    assert err == ""


@pytest.fixture(scope="module")
def slow_job(tmp_path_factory):
    """A job of minutes, in many small blocks."""
    folder = tmp_path_factory.mktemp("slow")
    # No chunk is stored: pixels are fill values, and filtering them takes as long as any.
    zarr.create_array(
        str(folder / "in.zarr"), shape=(32768, 32768), dtype="uint16", chunks=(128, 128)
    )
    job = folder / "job.yaml"
    job.write_text(
        "version: 1\ninput: in.zarr\nsteps: [{median: {footprint: {disk: 60}}}]\n"
        "output: {path: out.zarr, overwrite: true}\n"
        "run: {workers: 2, memory: 300 MiB}\n"
    )
    return job


@pytest.mark.skipif(os.name == "nt", reason="signals")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals(slow_job, cli, number, code):
    process = start("run", slow_job, "--set", f"output.path={code}.zarr")
    out = slow_job.with_name(f"{code}.zarr")
    try:
        until = time.monotonic() + 60
        while not (out / "zarr.json").exists() and process.poll() is None:
            assert time.monotonic() < until
            time.sleep(0.05)
        time.sleep(0.5)
        assert process.poll() is None, process.communicate()
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == code
    assert "Traceback" not in err
    assert "stopped; what was stored is recorded" in err.splitlines()[-2]
    assert err.splitlines()[-1].startswith("to go on:  chunkfilt run ")
    assert err.splitlines()[-1].endswith(f"--set output.path={code}.zarr --resume")
    said, shown, _ = cli("info", out)
    assert said == 0
    assert "UNFINISHED" in shown
    with pytest.warns(UnfinishedWarning, match="unfinished"):
        cf.open(out)


def test_other_images_and_numbers_of_a_filter(cli, mosaic, tmp_path):
    code, _, err = cli("apply", "add", mosaic, tmp_path / "sum.zarr", "--other", "3",
                       "--dtype", "int32")  # fmt: skip
    assert (code, err.count("Traceback")) == (0, 0)
    np.testing.assert_array_equal(pixels(tmp_path / "sum.zarr"), pixels(mosaic).astype("i4") + 3)
    code, _, _ = cli("apply", "subtract", mosaic, tmp_path / "none.zarr", "--other", mosaic)
    assert code == 0
    assert not pixels(tmp_path / "none.zarr").any()


def test_set_a_parameter_of_a_bare_step(cli, make_job, tmp_path):
    job = make_job("version: 1\ninput: in.zarr\nsteps: [median]\noutput: out.zarr\n")
    assert cli("run", job, "--set", "steps.0.median.size=5")[0] == 0
    expected = ndimage.median_filter(pixels(tmp_path / "in.zarr"), 5)
    np.testing.assert_array_equal(pixels(tmp_path / "out.zarr"), expected)


CODE = """
version: 1
input: in.zarr
steps:
  - generic: {function: "beside:spread", size: 3}
output: out.zarr
"""


def test_functions_in_a_job_only_where_they_are_allowed(cli, make_job, tmp_path):
    (tmp_path / "beside.py").write_text("def spread(x):\n    return x.max() - x.min()\n")
    job = make_job(CODE)
    code, _, error = cli("run", job)
    assert code == 2
    assert "line 4" in error or ":4:" in error
    assert "--allow-code" in error
    assert not (tmp_path / "out.zarr").exists()
    sys.modules.pop("beside", None)
    try:
        code, _, error = cli("run", job, "--allow-code")
    finally:
        allow_code_always(False)
    assert code == 0, error
    pixels = zarr.open_array(str(tmp_path / "in.zarr"))[...]
    expected = ndimage.maximum_filter(pixels, 3).astype(float) - ndimage.minimum_filter(pixels, 3)
    np.testing.assert_array_equal(zarr.open_array(str(tmp_path / "out.zarr"))[...], expected)


IMAGES = """
version: 1
input: in.zarr
images:
  mask: {path: mask.zarr}
steps:
  - mean: {size: 3}
    input: [source, mask]
  - correlate: {weights: kernel.npy}
output: out.zarr
"""


def test_further_images_and_weights_from_a_file(cli, make_job, make_store, tmp_path):
    job = make_job(IMAGES)
    pixels = zarr.open_array(str(tmp_path / "in.zarr"))[...]
    mask = (np.arange(pixels.size).reshape(pixels.shape) % 3 > 0).astype("uint8")
    make_store(tmp_path / "mask.zarr", mask)
    weights = np.array([[0.0, 1.0], [2.0, -1.0]])
    np.save(tmp_path / "kernel.npy", weights)
    code, _, error = cli("run", job)
    assert code == 0, error
    expected = cf.correlate(cf.mean(pixels, mask, size=3), weights=weights)
    np.testing.assert_array_equal(zarr.open_array(str(tmp_path / "out.zarr"))[...], expected)
    code, _, error = cli("run", job, "--set", "images.mask.path=nowhere.zarr", "--overwrite")
    assert code == 2
    assert "nowhere.zarr" in error
