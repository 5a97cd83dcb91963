"""Every mistake in a job is one sentence with file, line, column, and what would be right."""

import numpy as np
import pytest
import zarr

from chunkfilt.config import load_job
from chunkfilt.errors import BudgetError, ConfigError, InputError
from chunkfilt.runtime.run import plan_run

TAIL = "\noutput: out.zarr\n"
TOP = "version: 1\ninput: in.zarr\n"


@pytest.fixture
def mistake(make_job, mosaic):
    """Build a wrong job; return the error's line, column and message."""

    def caught(text):
        path = make_job(text)
        with pytest.raises(ConfigError) as found:
            load_job(path).build()
        error = found.value
        assert str(error) == f"{path}:{error.line}:{error.column}: {error.message}"
        assert "\n" not in error.message
        assert "pydantic" not in error.message
        return error.line, error.column, error.message

    return caught


WHOLE = [
    ("[1, 2]", 1, 1, ["a job is a mapping"]),
    ("", 1, 1, ["a job is a mapping"]),
    ("just words", 1, 1, ["a job is a mapping"]),
    ("input: in.zarr\nsteps: [mean]" + TAIL, 1, 1, ["version is missing"]),
    ("version: 1\nsteps: [mean]" + TAIL, 1, 1, ["input is missing"]),
    (TOP + TAIL, 1, 1, ["steps is missing"]),
    (TOP + "steps: [mean]\n", 1, 1, ["output is missing"]),
    ("version: 2\ninput: in.zarr\nsteps: [mean]" + TAIL, 1, 1, ["version must be 1, got 2"]),
    ("version: true\ninput: in.zarr\nsteps: [mean]" + TAIL, 1, 1, ["version must be 1", "True"]),
    ("version: '1'\ninput: in.zarr\nsteps: [mean]" + TAIL, 1, 1, ["version must be 1", "'1'"]),
    (TOP + "stesp: [mean]" + TAIL, 3, 1, ["'stesp'", "did you mean 'steps'"]),
    (TOP + "steps: [mean]\nworkers: 3" + TAIL, 4, 1, ["'workers'", "version, input, images"]),
    (TOP + "steps: [mean]\n3: 4" + TAIL, 4, 1, ["unknown key 3"]),
    (TOP + "steps: mean" + TAIL, 3, 1, ["steps must be a list"]),
    (TOP + "steps: {mean: {}}" + TAIL, 3, 1, ["steps must be a list"]),
    ("version: 1\ninput: 5\nsteps: [mean]" + TAIL, 2, 1, ["input must be a mapping, got 5"]),
    (TOP + "steps: [mean]\noutput: [x]\n", 4, 1, ["output must be a mapping"]),
]
STEPS = [
    ("meen", 5, ["unknown filter 'meen'", "did you mean 'mean'"]),
    ("gausian: {sigma: 1}", 5, ["did you mean 'gaussian'"]),
    ("7", 5, ["a step is a filter's name", "got 7"]),
    ("[mean]", 5, ["a step is a filter's name"]),
    ("{mean: {}, median: {}}", 5, ["one filter", "mean", "median"]),
    ("name: x", 5, ["one filter"]),
    ("mean: 5", 5, ["mean: parameters must be a mapping", "got 5"]),
    ("mean: {sizes: 5}", 12, ["no parameter 'sizes'", "did you mean 'size'", "it takes size"]),
    ("mean: {size: 0}", 12, ["size must be >= 1, got 0"]),
    ("mean: {size: [3, 0]}", None, ["size[1] must be >= 1, got 0"]),
    ("mean: {size: 2.5}", 12, ["size must be an integer, got 2.5"]),
    ("mean: {size: big}", 12, ["size must be an integer, got 'big'"]),
    ("mean: {size: true}", 12, ["size must be an integer, got True"]),
    ("mean: {size: '3'}", 12, ["size must be an integer, got '3'"]),
    ("mean: {size: []}", 12, ["size", "at least 1"]),
    ("mean: {size: {y: 3}}", 12, ["size must be an integer"]),
    ("gaussian: {sigma: -1}", 16, ["sigma must be >= 0", "got -1"]),
    ("gaussian: {sigma: .inf}", 16, ["sigma must be a finite number"]),
    ("gaussian: {sigma: .nan}", 16, ["sigma", "nan"]),
    ("gaussian: {order: 4}", 16, ["order must be <= 3, got 4"]),
    ("gaussian: {order: 1, sigma: 0}", None, ["order 1 needs sigma > 0"]),
    ("mean: {mode: reflected}", 12, ["mode must be one of", "'reflect'", "got 'reflected'"]),
    ("mean: {mode: 3}", 12, ["mode must be one of"]),
    ("mean: {cval: x, mode: constant}", 12, ["cval must be a number"]),
    ("mean: {dtype: complex64}", 12, ["dtype must be a bool, integer or float dtype", "complex64"]),
    ("mean: {dtype: uint7}", 12, ["dtype must be", "'uint7'"]),
    ("mean: {axes: [w]}", None, ["'w'"]),
    ("mean: {axes: [5]}", None, ["5"]),
    ("mean: {axes: []}", 12, ["axes must be"]),
    ("cast: {}", 5, ["cast: dtype is required"]),
    ("clip: {}", 5, ["needs min or max"]),
    ("clip: {min: 5, max: 1}", 5, ["min must be <= max"]),
    ("median: {footprint: {dsk: 3}}", 14, ["footprint", "disk"]),
    ("median: {footprint: [[1, 2], [1]]}", 14, ["footprint"]),
    ("median: {footprint: {disk: -3}}", 14, ["footprint"]),
    ("median: {footprint: {ball: 3}}", None, ["footprint must have 2 axes", "got 3"]),
    ("median: {size: 3, footprint: {disk: 1}}", None, ["size", "footprint"]),
    ("mean: {size: [3, 5, 7]}", 12, ["size must be one value or 2", "got 3: [3, 5, 7]"]),
    ("mean: {size: 3, origin: 2}", None, ["origin"]),
    ("minimum: {mode: constant, cval: -1}", None, ["cval", "uint16", "-1"]),
    ("add", 5, ["add takes image and other as input, got 1 image"]),
    ("crop: {w: [0, 3]}", 5, ["no axis 'w'", "the axes are y, x"]),
    ("crop: {y: [0, 99]}", 5, ["y must lie within 0 and 40", "99"]),
    ("crop: {y: [9, 3]}", 5, ["y must lie within"]),
    ("crop: {y: 40}", 5, ["y must be within -40 and 39, got 40"]),
    ("crop: {y: [0, 1, 2]}", 5, ["y must be (start, stop) or an index"]),
    ("crop: {y: three}", 5, ["y must be (start, stop) or an index"]),
    ("crop: {y: [a, b]}", 5, ["crop", "y"]),
    ("crop: {y: [0.5, 3]}", 5, ["crop", "y"]),
    ("crop: {y: 2.5}", 5, ["crop", "y"]),
    ("crop: 5", 5, ["parameters must be a mapping"]),
    ("equalize_hist: {nbins: 0}", 21, ["nbins must be >= 1"]),
]
AROUND = [
    ("{mean: {}, input: nope}", ["no step or image is called 'nope'", "there are source, median"]),
    ("{mean: {}, input: media}", ["did you mean 'median'"]),
    ("{mean: {}, input: true}", ["input must be a step's name, a number"]),
    ("{mean: {}, input: {a: 1}}", ["input must be a step's name"]),
    ("{mean: {}, input: [[median]]}", ["input must be a step's name"]),
    ("{mean: {}, input: 3}", ["mean"]),
    ("{gabor: {}, input: []}", ["gabor takes image as input"]),
    ("{gabor: {}, input: [source, median]}", ["gabor takes image as input, got 2 images"]),
    ("{add: {}, input: [1, 2]}", ["add takes image and other"]),
    ("{crop: {y: [0, 3]}, input: 3}", ["crop"]),
    ("{crop: {y: [0, 3]}, input: []}", ["crop"]),
    ("{crop: {y: [0, 3]}, input: [source, median]}", ["crop"]),
    ("{mean: {}, input: mean}", ["no step or image is called 'mean'"]),
    ("{mean: {}, name: median}", ["the name 'median' is taken"]),
    ("{mean: {}, name: source}", ["name must be", "none of source", "got 'source'"]),
    ("{mean: {}, name: a/b}", ["name must be a word", "'a/b'"]),
    ("{mean: {}, name: ''}", ["name must be a word"]),
    ("{mean: {}, name: 3}", ["name must be a word"]),
    ("{mean: {}, name: ..}", ["name"]),
    ("{mean: {}, name: .hidden}", ["name"]),
    ("{mean: {}, inputs: source}", ["inputs"]),
]
PLACES = [
    ("{path: x, save: nope}", ["no step or image is called 'nope'"]),
    ("{path: x, save: [mean, maen]}", ["did you mean 'mean'"]),
    ("{path: x, save: []}", ["save"]),
    ("{path: x, save: 3}", ["save"]),
    ("{path: x, save: [3]}", ["save"]),
    ("{}", ["output needs path"]),
    ("{path: 3}", ["output.path must be a string, got 3"]),
    ("{path: x, pth: 3}", ["unknown key 'pth'", "did you mean 'path'"]),
    ("{path: x, format: tiff}", ["format must be one of 'zarr'", "'tiff'"]),
    ("{path: x, dtype: complex64}", ["dtype must be a bool, integer or float dtype"]),
    ("{path: x, chunks: 64}", ["chunks must be a list, got 64"]),
    ("{path: x, chunks: [0, 5]}", ["chunks", "must be >= 1, got 0"]),
    ("{path: x, chunks: []}", ["chunks", "at least 1"]),
    ("{path: x, shards: [a]}", ["shards", "must be an integer"]),
    ("{path: x, overwrite: 1}", ["overwrite must be true or false, got 1"]),
    ("{path: x, overwrite: 'yes'}", ["overwrite must be true or false"]),
    ("{path: x, compressor: lzma}", ["zstd, blosc, gzip or none", "'lzma'"]),
    ("{path: x, compressor: {zst: 3}}", ["did you mean 'zstd'"]),
    ("{path: x, compressor: {zstd: 3, gzip: 3}}", ["compressor"]),
    ("{path: x, compressor: {zstd: {lvl: 3}}}", ["zstd", "lvl"]),
    ("{path: x, compressor: {zstd: x}}", ["zstd"]),
    ("{path: x, compressor: {blosc: {cname: wow}}}", ["blosc", "wow"]),
    ("{path: x, compressor: {gzip: 99}}", ["gzip"]),
    ("{path: x, compressor: 5}", ["compressor"]),
]
RUNS = [
    ("{scheduler: thread}", ["scheduler must be one of", "'thread'"]),
    ("{scheduler: spark}", ["scheduler must be one of", "processes"]),
    ("{workers: 0}", ["workers must be >= 1, got 0"]),
    ("{workers: two}", ["workers must be an integer"]),
    ("{memory: lots}", ["a size such as '400 MB'", "'lots'"]),
    ("{memory: -3}", ["a size such as"]),
    ("{memory: 0 GiB}", ["a size such as"]),
    ("{memory: %s GiB}" % ("9" * 400), ["a size such as"]),
    ("{memoyr: 1 GiB}", ["did you mean 'memory'"]),
    ("{address: 'tcp://127.0.0.1:1'}", ["address goes with scheduler: distributed"]),
    ("5", ["run must be a mapping"]),
    ("0", ["run must be a mapping"]),
    ("[]", ["run must be a mapping"]),
]
INPUTS = [
    ("nowhere.zarr", ["no such file or folder"]),
    ("in.zar", ["did you mean 'in.zarr'"]),
    ("job.yaml", ["not a Zarr store"]),
    (".", ["not a Zarr store"]),
    ("https://x.org/a.zarr", ["local path"]),
    ("{path: in.zarr, array: a}", ["an array, not a group"]),
    ("{path: in.zarr, axes: yxz}", ["2 axes", "axes must be 2 different names"]),
    ("{path: in.zarr, axes: yy}", ["2 different names"]),
    ("{path: in.zarr, spatial: z}", ["no axis 'z'", "y, x"]),
    ("{path: in.zarr, region: {w: [0, 3]}}", ["no axis 'w'"]),
    ("{path: in.zarr, region: {y: [0, 99]}}", ["y must lie within 0 and 40"]),
    ("{path: in.zarr, region: {y: [0]}}", ["at least 2"]),
    ("{path: in.zarr, region: {y: 3}}", ["must be a list"]),
    ("{path: in.zarr, select: {y: 40}}", ["within -40 and 39"]),
    ("{path: in.zarr, select: {y: [0, 3]}}", ["must be an integer"]),
    ("{path: in.zarr, paht: x}", ["did you mean 'path'"]),
    ("{axes: yx}", ["input needs path"]),
]


@pytest.mark.parametrize(("text", "line", "column", "words"), WHOLE)
def test_of_the_whole(mistake, text, line, column, words):
    at, place, message = mistake(text)
    assert (at, place) == (line, column)
    assert all(word in message for word in words), message


@pytest.mark.parametrize(("step", "column", "words"), STEPS)
def test_of_a_step(mistake, step, column, words):
    line, place, message = mistake(f"{TOP}steps:\n  - {step}{TAIL}")
    assert line == 4
    assert column is None or place in (column, column + 1)
    assert all(word in message for word in words), message


@pytest.mark.parametrize(("step", "words"), AROUND)
def test_of_names_and_inputs(mistake, step, words):
    line, _, message = mistake(f"{TOP}steps:\n  - median\n  - {step}{TAIL}")
    assert line == 5
    assert all(word in message for word in words), message


@pytest.mark.parametrize(("output", "words"), PLACES)
def test_of_the_output(mistake, output, words):
    line, _, message = mistake(f"{TOP}steps: [mean]\noutput: {output}\n")
    assert line == 4
    assert all(word in message for word in words), message


@pytest.mark.parametrize(("run", "words"), RUNS)
def test_of_the_run(mistake, run, words):
    line, _, message = mistake(f"{TOP}steps: [mean]{TAIL}run: {run}\n")
    assert line == 5
    assert all(word in message for word in words), message


@pytest.mark.parametrize(("given", "words"), INPUTS)
def test_of_the_input(mistake, given, words):
    line, _, message = mistake(f"version: 1\ninput: {given}\nsteps: [mean]{TAIL}")
    assert line == 2
    assert all(word in message for word in words), message


def test_the_column_is_that_of_the_wrong_part(mistake):
    text = "version: 1\ninput:\n  path: in.zarr\n  region: {w: [0, 3]}\nsteps: [mean]" + TAIL
    assert mistake(text)[0] == 4


def test_a_group_of_several_names_them(mistake, make_store, tmp_path):
    for name in ("a", "b"):
        make_store(tmp_path / "g.zarr" / name, np.zeros((3, 3)))
    zarr.create_group(str(tmp_path / "g.zarr"))
    text = "version: 1\ninput: {path: g.zarr%s}\nsteps: [mean]" + TAIL
    assert "a, b" in mistake(text % "")[2]
    assert "did you mean 'a'" in mistake(text % ", array: aa")[2]


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_pixels_that_no_filter_takes(mistake, make_store, tmp_path, dtype):
    make_store(tmp_path / "c.zarr", np.zeros((4, 4), dtype))
    line, _, message = mistake("version: 1\ninput: c.zarr\nsteps:\n  - mean" + TAIL)
    assert line == 4
    assert f"got dtype {dtype}" in message


def test_per_axis_lengths_are_known_with_the_image(make_job, mosaic):
    job = load_job(make_job(f"{TOP}steps:\n  - mean:\n      size: [3, 3, 3]{TAIL}"))
    with pytest.raises(ConfigError, match="one value or 2") as caught:
        job.build()
    assert (caught.value.line, caught.value.column) == (5, 7)


@pytest.mark.parametrize(
    "number", ["0x" + "f" * 5000, "9" * 4200, "1e400"], ids=["hex", "digits", "infinite"]
)
@pytest.mark.parametrize(
    "text",
    ids=["version", "size", "sigma", "crop", "chunks", "memory", "step", "key", "input"],
    argvalues=[
        "version: {}\ninput: in.zarr\nsteps: [mean]" + TAIL,
        TOP + "steps: [{{mean: {{size: {}}}}}]" + TAIL,
        TOP + "steps: [{{gaussian: {{sigma: {}}}}}]" + TAIL,
        TOP + "steps: [{{crop: {{y: {}}}}}]" + TAIL,
        TOP + "steps: [mean]\noutput: {{path: x, chunks: [{0}, {0}]}}\n",
        TOP + "steps: [mean]" + TAIL + "run: {{memory: {}}}\n",
        TOP + "steps: [{}]" + TAIL,
        TOP + "{}: 3\nsteps: [mean]" + TAIL,
        "version: 1\ninput: {}\nsteps: [mean]" + TAIL,
    ],
)
def test_huge_numbers_are_mistakes_not_crashes(make_job, mosaic, text, number):
    try:
        built = load_job(make_job(text.format(number))).build()
        plan_run(built.outputs, built.output, built.options)
    except InputError as error:
        assert len(str(error)) < 2000  # noqa: PT017 - either way will do


@pytest.mark.parametrize(
    "step",
    [
        "gaussian: {sigma: 1e300}",
        "mean: {size: 100000000000000000000}",
        "gaussian: {radius: 1000000000000000000000}",
        "median: {footprint: {disk: 1e9}}",
        "add: {}\n    input: [source, 99999999999999999999999]",
        "add: {}\n    input: [source, 70000]",
    ],
)
def test_absurd_parameters_are_refused(mistake, step):
    assert mistake(f"{TOP}steps:\n  - {step}{TAIL}")[0] in (4, 5)


@pytest.mark.parametrize("path", [r'"a\0b"', "a" * 5000, "''"], ids=["null", "long", "empty"])
def test_strange_paths_are_refused(mistake, path):
    assert mistake(f"version: 1\ninput: {path}\nsteps: [mean]{TAIL}")[0] == 2


def test_too_little_memory_says_how_much_is_needed(make_job, mosaic):
    job = load_job(make_job(f"{TOP}steps: [mean]{TAIL}run: {{memory: 1 MB}}"))
    built = job.build()
    with pytest.raises(BudgetError, match=r"mean: the smallest block.*needs .*use memory: \d"):
        plan_run(built.outputs, built.output, built.options)
