"""Commands about outputs: run --resume, verify, compare, rerun, info; exit codes and texts."""

import json
import re
import shutil

import numpy as np
import pytest
import tifffile
import zarr

from chunkfilt.filters.generic import allow_code_always

JOB = """
version: 1
input: in.zarr
steps:
  - maximum: {size: 3}
    name: top
  - equalize_hist
  - statistics
output: {path: out.zarr, save: [top, equalize_hist, statistics], chunks: [8, 8]}
run: {workers: 2}
"""
TABLE = """
version: 1
input: in.zarr
steps:
  - maximum: {size: 3}
    name: top
  - histogram: {nbins: 9000, range: [0, 65536]}
    input: source
output: {path: out.zarr, save: [top, histogram], chunks: [8, 8]}
"""
FAULTY = """
version: 1
input: in.zarr
steps: [{generic: {function: "faulty:top", size: 3}}]
output: {path: out.zarr, chunks: [8, 8]}
"""
TOP = """
from pathlib import Path
def top(x):
    if (Path(__file__).parent / "fault").exists():
        raise ArithmeticError("no such top")
    return x.max()
"""


@pytest.fixture
def out(cli, make_job, tmp_path):
    assert cli("run", make_job(JOB))[0] == 0
    return tmp_path / "out.zarr"


@pytest.fixture
def faulty(make_job, tmp_path):
    """A job that fails as long as there is a file `fault`."""
    (tmp_path / "faulty.py").write_text(TOP)
    (tmp_path / "fault").touch()
    yield make_job(FAULTY)
    allow_code_always(False)


def files_of(place):
    files = [file for file in sorted(place.rglob("*")) if file.is_file()]
    return {str(file.relative_to(place)): file.read_bytes() for file in files}


def test_a_run_that_is_stopped_says_how_to_go_on(cli, faulty, tmp_path):
    code, out, err = cli("run", faulty, "--allow-code", "--overwrite", "--workers", "1")
    assert (code, out) == (3, "")
    *_, said, again = err.splitlines()
    assert said.startswith("chunkfilt: ")
    assert "failed, 3 times each: block 0 (0:40, 0:50): ArithmeticError: no such top" in said
    assert again == f"to go on:  chunkfilt run {faulty} --allow-code --workers 1 --resume"
    code, _, err = cli("verify", "out.zarr")
    assert code == 4
    assert "out.zarr: 2 problems:\n  the run was stopped before its end\n  " in err
    assert "c/0/0 (y 0:8, x 0:8) and 34 more: no record that it was written" in err
    code, out, _ = cli("info", "out.zarr")
    assert (code, "UNFINISHED" in out) == (0, True)
    code, _, err = cli("rerun", "out.zarr", "--allow-code")
    assert (code, "is unfinished: resume it first" in err) == (2, True)
    assert "StoppedError: " in out
    (tmp_path / "fault").unlink()
    words = again.removeprefix("to go on:  chunkfilt ").split()
    code, out, err = cli(*words)
    assert code == 0, err
    assert "out.zarr: " in out
    assert cli("verify", "out.zarr")[0] == 0
    assert cli("rerun", "out.zarr", "--allow-code")[0] == 0


def test_resume(cli, make_job, out, mistake):
    job, whole = out.with_name("job.yaml"), files_of(out)
    assert "exists" in mistake("run", job)
    (out / "top" / "c" / "1" / "1").unlink()
    code, said, err = cli("run", job, "--resume")
    assert code == 0
    assert "out.zarr" in said
    assert files_of(out) == whole
    assert "done before" in err
    code, _, err = cli("run", job, "--resume", "--scheduler", "serial")
    assert code == 0
    assert "nothing to do, all " in err
    message = mistake("run", job, "--resume", "--set", "steps.0.maximum.size=5")
    assert "cannot resume" in message
    assert "maximum: size was 3 and is 5" in message
    assert files_of(out) == whole


def test_resume_where_there_is_nothing_yet(cli, make_job, tmp_path):
    assert cli("run", make_job(JOB), "--resume")[0] == 0
    assert cli("verify", "out.zarr")[0] == 0
    assert cli("apply", "mean", "in.zarr", "m.zarr", "--resume")[0] == 0
    (tmp_path / "m.zarr" / "c" / "0" / "0").unlink()
    assert cli("apply", "mean", "in.zarr", "m.zarr", "--resume")[0] == 0
    assert cli("verify", "m.zarr")[0] == 0


def test_log_file(cli, make_job, tmp_path):
    job = make_job(JOB)
    for number, words in enumerate(([], ["--resume", "--json"]), 1):
        assert cli("run", job, "--log-file", "a log", *words)[0] == 0
        lines = (tmp_path / "a log").read_text().splitlines()
        stamp = re.compile(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d\d\d\+00:00 ")
        assert all(stamp.match(line) for line in lines)
        assert sum(" done in " in line for line in lines) == number
    assert "nothing to do" in lines[-5] + lines[-4] + lines[-3]
    (tmp_path / "in.zarr" / "c" / "0" / "1").write_bytes(b"damage")
    assert cli("run", job, "--log-file", "a log", "--overwrite")[0] == 3
    assert "stopped: " in (tmp_path / "a log").read_text().splitlines()[-1]


def test_verify(cli, out):
    assert cli("verify", out) == (0, f"{out}: 70 files are as they were written\n", "")
    held = json.loads(cli("verify", out, "--json")[1])
    record = zarr.open_group(str(out)).attrs["chunkfilt"]
    assert held == {
        "path": str(out), "units": 70, "checksums": record["checksums"], "problems": [],
    }  # fmt: skip
    (out / "top" / "c" / "1" / "1").unlink()
    (out / "top" / "c" / "4" / "6").write_bytes(b"damage")
    code, said, err = cli("verify", out)
    assert (code, said) == (4, "")
    first, *listed = err.splitlines()
    assert first == f"chunkfilt: {out}: 2 problems:"
    assert listed == [
        f"  {out}/top/c/1/1 (y 8:16, x 8:16) is missing",
        f"  {out}/top/c/4/6 (y 32:40, x 48:50) is 6 bytes instead of {_size(cli, out)}",
    ]
    code, said, err = cli("verify", out, "--json")
    assert code == 4
    assert json.loads(said)["problems"] == [line.strip() for line in listed]


def _size(cli, out):
    """Return what a file's record says of its size."""
    text = next(out.with_name("out.zarr.run").glob("ledger-*")).read_text()
    return re.search(r'"top".*?"34:[0-9a-f]{16}:(\d+):', text)[1]


def test_verify_repairs(cli, out, tmp_path):
    whole = files_of(out)
    (out / "top" / "c" / "1" / "1").unlink()
    (out / "equalize_hist" / "c" / "4" / "6").write_bytes(b"damage")
    code, said, err = cli("verify", out, "--repair", "--workers", "1", "--memory", "5 GiB")
    assert (code, said) == (0, f"{out}: 70 files are as they were written\n")
    assert f"chunkfilt: repairing: {out}/top/c/1/1 (y 8:16, x 8:16) is missing" in err
    assert files_of(out) == whole
    code, said, err = cli("verify", out, "--repair", "--json")
    assert (code, json.loads(said)["problems"], err) == (0, [], "")
    held = zarr.open_array(str(tmp_path / "in.zarr"), mode="r+")
    held[0, 0] = 1 - (held[0, 0] > 0)
    (out / "top" / "c" / "1" / "1").unlink()
    code, _, err = cli("verify", out, "--repair")
    assert code == 2
    assert "cannot resume" in err
    assert "input: files was" in err


def test_a_table_is_verified_repaired_and_computed_once_more(cli, make_job, tmp_path):
    assert cli("run", make_job(TABLE))[0] == 0
    out = tmp_path / "out.zarr"
    whole, file = files_of(out), out / "tables" / "histogram.csv"
    assert cli("verify", out)[1] == f"{out}: 36 files are as they were written\n"
    assert '  histogram: {"file": "tables/histogram.csv", "bytes": ' in cli("info", out)[1]
    file.write_bytes(file.read_bytes()[:-2])
    code, _, err = cli("verify", out)
    assert code == 4
    size = len(whole["tables/histogram.csv"])
    assert err == f"chunkfilt: {out}: 1 problem:\n  {file} is {size - 2} bytes instead of {size}\n"
    code, _, err = cli("verify", out, "--repair")
    assert code == 0
    assert f"chunkfilt: repairing: {file} is " in err
    assert files_of(out) == whole
    code, said, _ = cli("rerun", out)
    assert code == 0
    assert said.splitlines()[1].startswith('histogram: {"file": "tables/histogram.csv", ')
    held = zarr.open_array(str(tmp_path / "in.zarr"), mode="r+")
    held[0:2, 0:2] = 65535
    assert cli("rerun", out)[1].count("DIFFERENT") == 2


def test_without_its_run_an_output_is_verified_all_the_same(cli, out):
    shutil.rmtree(out.with_name("out.zarr.run"))
    assert cli("verify", out)[0] == 0
    held = zarr.open_array(str(out / "top"), mode="r+")
    held[0, 0] = 3
    code, _, err = cli("verify", out, "--repair")
    assert code == 2
    assert "no record of a run" in err


def test_compare(cli, out, mosaic, make_store, tmp_path):
    shutil.copytree(out, tmp_path / "b.zarr")
    code, said, err = cli("compare", "out.zarr", "b.zarr")
    assert (code, err) == (0, "")
    assert said == "equalize_hist: equal, 2000 pixels\ntop: equal, 2000 pixels\n"
    held = zarr.open_array(str(tmp_path / "b.zarr" / "top"), mode="r+")
    held[3, 4] = held[3, 4] ^ 2
    code, said, err = cli("compare", "out.zarr", "b.zarr")
    assert (code, err) == (4, "chunkfilt: out.zarr and b.zarr differ\n")
    differ = "1 of 2000 pixels differ, first at [3, 4], by 2 at most, at [3, 4]"
    assert said.splitlines()[1] == f"top: {differ}"
    code, said, _ = cli("compare", "out.zarr", "b.zarr", "--json")
    assert code == 4
    assert json.loads(said)["top"] == {
        "pixels": 2000, "different": 1, "largest": 2.0, "first": [3, 4], "worst": [3, 4],
        "equal": False,
    }  # fmt: skip
    again = make_store(tmp_path / "again", zarr.open_array(str(mosaic))[:], chunks=(7, 50))
    assert cli("compare", mosaic, again) == (0, "equal, 2000 pixels\n", "")
    assert json.loads(cli("compare", mosaic, again, "--json")[1])[""]["equal"] is True


def test_compare_what_cannot_be(mistake, out, make_store, tmp_path):
    make_store(tmp_path / "c", np.zeros((4, 5)))
    assert "shapes differ" in mistake("compare", "in.zarr", "c")
    assert "out.zarr holds equalize_hist, top; in.zarr holds one array" in mistake(
        "compare", "out.zarr", "in.zarr"
    )


def test_rerun(cli, out, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    code, said, _ = cli("rerun", out, "--scheduler", "serial")
    assert code == 0
    names = [line.partition(": ")[0] for line in said.splitlines()]
    assert names == ["top", "equalize_hist", "statistics"]
    assert all(line.endswith(": equal") for line in said.splitlines())
    assert sorted(tmp_path.rglob("*")) == before
    code, said, _ = cli("rerun", out, "--out", "b.zarr", "--log-file", "log")
    assert code == 0
    assert "done in" in (tmp_path / "log").read_text()
    assert cli("compare", "out.zarr", "b.zarr")[0] == 0
    assert cli("verify", "b.zarr")[0] == 0
    assert "exists" in cli("rerun", out, "--out", "b.zarr")[2]


def test_rerun_of_a_changed_input(cli, out, tmp_path):
    held = zarr.open_array(str(tmp_path / "in.zarr"), mode="r+")
    held[0:16, 0:16] = 9
    code, said, err = cli("rerun", out)
    assert code == 4
    assert said.count("DIFFERENT") == 3
    assert "chunkfilt: input ../in.zarr: was sha256:" in err
    assert err.splitlines()[-1].endswith("computing it once more gave other results")


def test_rerun_without_its_input(cli, out, tmp_path):
    (tmp_path / "in.zarr").rename(tmp_path / "moved.zarr")
    code, _, err = cli("rerun", out)
    assert code == 2
    assert "in.zarr" in err.splitlines()[-1]


def test_info(cli, out):
    code, said, err = cli("info", out)
    assert (code, err) == (0, "")
    for word in ("top: 40 y x 50 x, uint16", "finished", "checksum top: cf1:", "statistics: {",
                 "input ../in.zarr: sha256:", "threads x 2", "the job", "- maximum:"):  # fmt: skip
        assert word in said
    assert len(json.loads(cli("info", out, "--json")[1])["run"]["checksums"]) == 2


def test_info_and_compare_of_a_tiff_file(cli, mosaic, tmp_path):
    pixels = zarr.open_array(str(mosaic))[:]
    with tifffile.TiffWriter(tmp_path / "two.tif") as writer:
        for one in (pixels, pixels[:7]):
            writer.write(one, metadata=None)
    tifffile.imwrite(tmp_path / "one.tif", pixels)
    code, said, err = cli("info", "two.tif")
    assert (code, err) == (0, "")
    assert said.startswith("0: 40 y x 50 x, uint16, ")
    assert "\n1: 7 y x 50 x, uint16, " in said
    assert cli("info", "one.tif")[1].startswith("one.tif: 40 y x 50 x")
    assert cli("compare", "one.tif", mosaic) == (0, "equal, 2000 pixels\n", "")
