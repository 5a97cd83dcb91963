"""Jobs from anyone: whatever the file says, one sentence with line and column, and soon."""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from chunkfilt.config import load_job
from chunkfilt.documents import parse_yaml
from chunkfilt.errors import ConfigError, InputError, RunError
from chunkfilt.filters.filter import registered
from chunkfilt.runtime.run import plan_run

JOBS = sorted((Path(__file__).parents[2] / "config").glob("*.yaml"))
HEAD = "version: 1\ninput: in.zarr\n"
TAIL = "output: out.zarr\n"
# More than what the interpreter and the libraries have already.
ROOM = 1 << 30

# What stands where a number, a word or a list is expected.
HOSTILE = [
    *("1e999", "9" * 5000, "0x" + "f" * 5000, "-1", "0", "1.5", ".nan", ".inf", "-.inf", "-0.0"),
    *("1000000000", "1000000000000", "18446744073709551615", "-9223372036854775808", "4294967296"),
    *("1e300", "1e-300", "[0.1, 1e308]", "1e9", "20000", "65537", "1048576", "[1048576, 1048576]"),
    *("true", "null", "x", "''", "[]", "{}", "[[]]", "[1, 2]", "[1, 2, 3, 4, 5, 6, 7, 8, 9]"),
    *("{disk: 1000000000}", "{disk: 500}", "{ball: 500}", "{ring: [499, 500]}", "{disk: .nan}"),
    *("{ellipse: [1e300, 2]}", "{gaussian: 1e9}", "{gaussian: [125, 125, 125]}", "{box: 1e9}"),
    *("{box: [1001, 1001, 1001]}", "[[0, 1], [1]]", "[['a']]", "[[1e300]]", "[[[[1]]]]"),
    *("complex64", "object", "'|O'", "'u2,u2'", "M8[s]", "int64", "constant", "wrap", "[y]"),
    *("[x, x]", "[-1]", "in.zarr", "../../etc/passwd", "a.npy", '"\\0"', '"\\0.npy"', "/dev/zero"),
    *("os:system", "!!python/object:os.system x", "&a 1", "*a", "<<", "2001-01-01", "12:30:45"),
    *("0o17", "017", "1_000", "'" + "x" * 5000 + "'", '"\\ud800"', "é", "🔬", "{y: 1}"),
    *("[y, x, y]", "zstd", "{zstd: 99}", "{blosc: {cname: x}}", "none", "distributed", "400 TB"),
    *("tcp://nowhere:1", "https://x/y.zarr", "[g, g]", "source", "/", ".", "..", "~", "- 1", "? a"),
]  # fmt: skip
NOISE = st.sampled_from(
    [b"&a ", b"*a", b"!!x ", b"\t", b"? ", b"- ", b"%", b"<<: ", b"\0", b"\xff", b"\xef\xbb\xbf",
     b"\n", b"  ", b"{", b"]", b"'", b'"', b"# ", b"|\n", b"---\n", b"...\n", b": ", b"\xc2\x85"]
)  # fmt: skip
VALUE = re.compile(rb"(?<=[:\[,-] )[^\s,\[\]{}#][^,\[\]{}#\n]*")


def inputs_for(folder):
    for name in ("in", "mosaic", "elevation"):
        array = zarr.create_array(
            str(folder / f"{name}.zarr"),
            shape=(12, 10),
            chunks=(5, 5),
            dtype="uint16",
            dimension_names=["y", "x"],
        )
        array[:] = np.arange(120).reshape(12, 10)


@pytest.fixture(scope="session")
def folder():
    with tempfile.TemporaryDirectory() as name:
        inputs_for(Path(name))
        yield Path(name)


TEXTS = [path.read_bytes().replace(b"../demo/", b"") for path in JOBS]
FILTERS = {name: list(one.model.model_fields) for name, one in registered().items()}


def build(folder, raw):
    """Load, build and plan a job; nothing but the errors that are meant may come out."""
    path = folder / "job.yaml"
    path.write_bytes(raw)
    try:
        built = load_job(path).build()
        plan_run(built.outputs, built.output, built.options)
    except ConfigError as error:
        assert re.match(rf"{re.escape(str(path))}:\d+:\d+: .", str(error))  # noqa: PT017
        check_message(error)
    except InputError as error:
        check_message(error)


def check_message(error):
    assert "\n" not in str(error)
    assert len(str(error)) < 1500
    assert "pydantic" not in str(error)
    str(error).encode()


@st.composite
def mutated(draw):
    """Return a real job with some of its values, lines and bytes changed."""
    raw = draw(st.sampled_from(TEXTS))
    for _ in range(draw(st.integers(1, 3))):
        change = draw(st.sampled_from([swap_value, change_lines, change_bytes, swap_filter]))
        raw = change(draw, raw)
    return raw


def swap_value(draw, raw):
    found = list(VALUE.finditer(raw))
    if not found:
        return raw
    one = draw(st.sampled_from(found))
    return raw[: one.start()] + draw(st.sampled_from(HOSTILE)).encode() + raw[one.end() :]


def change_lines(draw, raw):
    lines = raw.splitlines(keepends=True)
    if not lines:
        return raw
    at, to = (draw(st.integers(0, len(lines) - 1)) for _ in range(2))
    kind = draw(st.sampled_from(["double", "drop", "move", "indent", "cut"]))
    if kind == "double":
        lines.insert(to, lines[at])
    elif kind == "indent":
        lines[at] = b"  " + lines[at]
    elif kind == "cut":
        del lines[max(at, to) :]
    else:
        line = lines.pop(at)
        if kind == "move":
            lines.insert(to, line)
    return b"".join(lines)


def change_bytes(draw, raw):
    at = draw(st.integers(0, len(raw)))
    cut = draw(st.integers(0, 9))
    return raw[:at] + draw(NOISE | st.binary(max_size=5)) + raw[at + cut :]


def swap_filter(draw, raw):
    """Put a step of any filter with any parameter before the others."""
    name = draw(st.sampled_from(list(FILTERS)))
    param = draw(st.sampled_from([*FILTERS[name], "sise"]))
    value = draw(st.sampled_from(HOSTILE))
    return raw.replace(b"steps:\n", f"steps:\n  - {name}: {{{param}: {value}}}\n".encode(), 1)


@settings(max_examples=1000, deadline=None, derandomize=True)
@given(raw=mutated())
def test_a_mutated_job_is_built_or_refused(folder, raw):
    build(folder, raw)


@pytest.mark.faults
@settings(max_examples=12_000, deadline=None)
@given(raw=mutated())
def test_many_mutated_jobs_are_built_or_refused(folder, raw):
    build(folder, raw)


STEPS = [
    "mean: {size: 1000000000}",
    "median: {size: 1048576}",
    "median: {size: [5000, 5000]}",
    "equalize_local: {size: 65536}",
    "equalize_hist: {nbins: 1000000000000}",
    "variance: {footprint: {disk: 1000000000}}",
    "variance: {footprint: {ball: 500}}",
    "erosion: {footprint: {ball: 200}}",
    "gaussian: {sigma: 1e300}",
    "gaussian: {sigma: [0.1, 1e308]}",
    "gaussian: {radius: 1000000000}",
    "unsharp_mask: {radius: 1e300}",
    "binary_erosion: {iterations: 1000000000}",
    "binary_opening: {iterations: 18446744073709551615}",
    "correlate: {weights: {gaussian: 1e9}}",
    "correlate: {weights: {gaussian: [125, 125, 125]}}",
    "correlate: {weights: {box: [1001, 1001, 1001]}}",
    "correlate: {weights: /dev/zero.npy}",
    "gabor: {frequency: 1e-300}",
    "gabor: {frequency: 1e300}",
    "gabor: {frequency: 0.1, bandwidth: 1e9}",
    "gabor: {frequency: 0.1, bandwidth: 1e-300}",
    "threshold_local: {block_size: 1000000001}",
    "histogram: {nbins: 1000000000000}",
    "fill_gaps: {max_distance: 1e300}",
    "crop: {y: [0, 1000000000000]}",
]
OUTPUTS = [
    "{path: out.zarr, chunks: [1000000000000, 1000000000000]}",
    "{path: out.zarr, chunks: [1, 1], shards: [1000000000000, 1000000000000]}",
    "{path: out.zarr, compressor: {blosc: {clevel: 1000000000000}}}",
]
PROGRAM = """
import json, resource, sys
from chunkfilt.config import load_job
from chunkfilt.errors import InputError
from chunkfilt.runtime.run import plan_run
import chunkfilt.filters.filter
held = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (held + int(sys.argv[1]),) * 2)
resource.setrlimit(resource.RLIMIT_CPU, (120, 120))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
told = []
for path in sys.argv[2:]:
    try:
        built = load_job(path).build()
        plan_run(built.outputs, built.output, built.options)
        told.append("accepted")
    except InputError as error:
        told.append(f"refused: {error}")
    except BaseException as error:
        told.append(f"{type(error).__name__}: {error}")
more = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(json.dumps([told, more * 1024]))
"""


def outcomes(room, *paths):
    """Return what became of each job in a process with `room` more bytes, and how many it took."""
    words = [sys.executable, "-c", PROGRAM, str(room), *map(str, paths)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_what_asks_for_too_much_is_refused_before_anything_is_allocated(folder):
    paths = []
    for number, step in enumerate(STEPS):
        paths.append(folder / f"step{number}.yaml")
        paths[-1].write_text(f"{HEAD}steps:\n  - {step}\n{TAIL}")
    for number, output in enumerate(OUTPUTS):
        paths.append(folder / f"output{number}.yaml")
        paths[-1].write_text(f"{HEAD}steps: [mean]\noutput: {output}\n")
    told, grown = outcomes(ROOM, *paths)
    wrong = {
        text: said
        for text, said in zip([*STEPS, *OUTPUTS], told, strict=True)
        if not said.startswith("refused: ")
    }
    assert not wrong
    assert grown < ROOM // 4


def test_an_image_of_a_tiny_chunk_each_is_planned_without_listing_them(folder):
    meta = json.loads((folder / "in.zarr" / "zarr.json").read_text())
    meta["shape"] = [1 << 31, 1 << 31]
    meta["chunk_grid"]["configuration"]["chunk_shape"] = [1, 1]
    (folder / "huge.zarr").mkdir()
    (folder / "huge.zarr" / "zarr.json").write_text(json.dumps(meta))
    path = folder / "huge.yaml"
    path.write_text("version: 1\ninput: huge.zarr\nsteps: [{mean: {size: 5}}]\noutput: out.zarr\n")
    told, grown = outcomes(ROOM, path)
    assert told[0].startswith(("accepted", "refused"))
    assert grown < ROOM // 4


@pytest.mark.faults
def test_every_parameter_of_every_filter_with_every_value(folder):
    paths = []
    for name, params in FILTERS.items():
        inputs = ", ".join(["source"] * len(registered()[name].inputs))
        for param in params:
            for value in HOSTILE:
                path = folder / f"e{len(paths)}.yaml"
                step = f"  - {name}: {{{param}: {value}}}\n    input: [{inputs}]\n"
                path.write_text(f"{HEAD}steps:\n{step}{TAIL}", encoding="utf-8")
                paths.append(path)
    wrong = []
    for at in range(0, len(paths), 1000):
        batch = paths[at : at + 1000]
        for path, said in zip(batch, outcomes(2 * ROOM, *batch)[0], strict=True):
            if not said.startswith(("accepted", "refused")):
                wrong.append((path.read_text(), said))
            path.unlink()
    assert not wrong


MEBIBYTE = 1 << 20
WHOLE = {
    "nested lists": b"[" * MEBIBYTE,
    "nested mappings": b"{a: " * (MEBIBYTE // 4),
    "nested dashes": b"- " * (MEBIBYTE // 2),
    "nested lists of a quarter": b"[" * (MEBIBYTE // 4),
    "nested keys": b"? " * (MEBIBYTE // 8),
    "nested indents": b"".join(b" " * n + b"a:\n" for n in range(700)),
    "many numbers": b"a: [" + b"1," * (MEBIBYTE // 10) + b"1]",
    "many keys": b"".join(b"k%d: 1\n" % n for n in range(22_000)),
    "a long tag": b"a: !" + b"x" * (MEBIBYTE // 4 - 10),
    "a long anchor": b"a: &" + b"x" * (MEBIBYTE // 4 - 10),
    "a long alias": b"a: *" + b"x" * (MEBIBYTE // 4 - 10),
    "a long key": b"x" * (MEBIBYTE // 4 - 10) + b": 1",
    "a long quoted key": b'"' + b"x" * (MEBIBYTE // 4 - 10) + b'": 1',
    "a long word": b"version: " + b"x" * (MEBIBYTE // 4 - 20),
    "a long text": b"version: '" + b"x" * (MEBIBYTE // 4 - 20) + b"'",
    "many documents": b"---\n" * (MEBIBYTE // 16),
    "laughs": b"a: &a [x]\nb: &b [*a, *a]\nc: [*b, *b]\n",
    "merges": b"a: &a {x: 1}\nb: {<<: *a}\n",
    "a billion digits": b"version: " + b"9" * 100_000,
    "utf-16": "version: 1".encode("utf-16"),
    "latin-1": b"version: 1\ninput: gr\xfcn.zarr\n",
    "nul": b"version: 1\0",
    "an escape": b'version: "\\UFFFFFFFF"',
    "half a pair": b'version: "\\ud800"',
    "nothing": b"",
    "noise": bytes(range(256)) * 16,
}


@pytest.mark.parametrize("raw", WHOLE.values(), ids=WHOLE)
def test_hostile_files_are_refused_with_line_and_column(folder, raw):
    path = folder / "whole.yaml"
    path.write_bytes(raw)
    with pytest.raises(ConfigError) as caught:
        load_job(path)
    assert re.match(rf"{re.escape(str(path))}:\d+:\d+: .", str(caught.value))
    check_message(caught.value)


@pytest.mark.parametrize(
    ("raw", "place"),
    [
        (HEAD.encode() + b"steps: [mean: {size: !!int 3}]\n", ":3:22: tags"),
        (HEAD.encode() + b"steps: [mean: {size: 1e999}]\n", ":3:22: numbers"),
        (HEAD.encode() + b"steps: &s [mean]\n", ":3:8: anchors"),
        (HEAD.encode() + b"input: in.zarr\n", ":3:1: 'input' stands twice"),
        (b"version: 1\ninput: &x in.zarr\n", ":2:8: anchors"),
    ],
)  # fmt: skip
def test_the_command_line_says_where_and_ends_with_2(folder, raw, place):
    path = folder / "told.yaml"
    path.write_bytes(raw)
    done = subprocess.run(
        [sys.executable, "-m", "chunkfilt", "run", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert f"{path}{place}" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_numbers_dates_and_octals_are_those_of_yaml_1_2():
    text = "[1e-3, 1e3, .5, 0o17, 017, 12:30:45, 2001-01-01, 1_000, yes, .inf, -0.0]"
    found = parse_yaml(text.encode(), "j").data
    assert found == [
        0.001, 1000.0, 0.5, 15, 17, "12:30:45", "2001-01-01", "1_000", "yes", float("inf"), 0.0
    ]  # fmt: skip


SOURCES = Path(__file__).parents[2] / "chunkfilt"
FORBIDDEN = re.compile(
    r"pickle\.loads?\b|\ballow_pickle\s*=\s*True|(?<![\w.])eval\(|(?<![\w.])exec\(|"
    r"\byaml\.load\(|\bmarshal\b|\bdill\b|\bos\.system\(|shell\s*=\s*True|\b__import__\("
)


# What a run and its own worker processes say to each other.
BETWEEN_PROCESSES = {"runtime/outcome.py", "runtime/processes.py", "runtime/cluster.py"}


def test_nothing_in_the_package_makes_code_of_data():
    found = [
        f"{path.name}:{number}: {line.strip()}"
        for path in SOURCES.rglob("*.py")
        if path.relative_to(SOURCES).as_posix() not in BETWEEN_PROCESSES
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if FORBIDDEN.search(line)
    ]
    assert not found
    imports = [
        path.relative_to(SOURCES).as_posix()
        for path in SOURCES.rglob("*.py")
        if "import_module(" in path.read_text(encoding="utf-8")
    ]
    # Names of the package's own, of filters on their way to other processes, and of `generic`
    # once the caller has allowed code.
    assert set(imports) <= {"__init__.py", "_optional.py", "filters/__init__.py",
                            "filters/filter.py", "filters/generic.py"}  # fmt: skip


class Bomb:
    """Leaves a trace where unpickling it is tried."""

    def __reduce__(self):
        return Path.touch, (Path("unpickled"),)


def test_weights_that_hold_objects_are_never_unpickled(folder, monkeypatch):
    monkeypatch.chdir(folder)
    np.save(folder / "objects.npy", np.array([[Bomb()]], dtype=object), allow_pickle=True)
    (folder / "renamed.npy").write_bytes(b"\x80\x04cos\nsystem\n.")
    for name in ("objects.npy", "renamed.npy"):
        path = folder / "weights.yaml"
        path.write_text(f"{HEAD}steps:\n  - correlate: {{weights: {name}}}\n{TAIL}")
        with pytest.raises(ConfigError, match=r"weights must be a \.npy file of numbers"):
            load_job(path)
    assert not (folder / "unpickled").exists()


def test_code_is_not_run_unless_it_is_allowed(folder):
    path = folder / "code.yaml"
    path.write_text(f"{HEAD}steps:\n  - generic: {{function: 'os:getcwd', size: 3}}\n{TAIL}")
    with pytest.raises((ConfigError, RunError), match="allow"):
        load_job(path).build()
