"""What makes two runs the same: everything pixels follow from, and nothing else."""

import functools
import json
import os
import shutil
import subprocess
import sys
import textwrap
from dataclasses import replace

import numpy as np
import pytest
import zarr

import chunkfilt as cf
from chunkfilt.arrays.job import split_options
from chunkfilt.errors import ChunkfiltError
from chunkfilt.filters.filter import registered
from chunkfilt.runtime.fingerprint import differences, fingerprint
from chunkfilt.runtime.run import plan_run
from tests.contracts.conftest import Case
from tests.examples import example_of

SHAPE = (33, 41)


def mark_of(images, **options):
    """Return the fingerprint of saving images, as it stands in a file."""
    return fingerprint_of(nodes_of(images), *split_options(nodes_of(images), options))


def nodes_of(images):
    """Return nodes by name."""
    given = images if isinstance(images, dict) else {"": images}
    return {name: one.node for name, one in given.items()}


def fingerprint_of(outputs, *options):
    layouts = plan_run(outputs, *options)[1]
    return json.loads(json.dumps(fingerprint(outputs, layouts)))


def told(first, second):
    """Return in words what differs, and that nothing differs the other way round if not."""
    words = list(differences(first, second))
    assert bool(words) == bool(list(differences(second, first)))
    return words


@pytest.fixture
def store(tmp_path, make_store, make_pixels):
    return make_store(tmp_path / "in", make_pixels(SHAPE), dims="yx")


@pytest.fixture
def image(store):
    return cf.open(store)


CHANGES = {
    "gaussian sigma": ({"sigma": 1.0}, {"sigma": 1.5}),
    "gaussian radius": ({}, {"radius": 3}),
    "gaussian dtype": ({}, {"dtype": "float64"}),
    "mean size": ({"size": 3}, {"size": [3, 5]}),
    "mean mode": ({"mode": "reflect"}, {"mode": "wrap"}),
    "mean cval": ({"mode": "constant"}, {"mode": "constant", "cval": float("nan")}),
    "mean nan_policy": ({}, {"nan_policy": "omit"}),
    "median footprint": (
        {"footprint": [[1, 0], [1, 1]]}, {"footprint": [[0, 1], [1, 1]]},
    ),
    "correlate weights": (
        {"weights": np.ones((30, 30)).tolist()}, {"weights": (np.eye(30) * 0.1 + 1).tolist()},
    ),
    "rank rank": ({"rank": 1}, {"rank": -1}),
    "cast dtype": ({"dtype": "int32"}, {"dtype": "float32"}),
    "clip max": ({"max": 5}, {"max": 6}),
    "equalize_hist scope": ({}, {"scope": "all"}),
    "erosion structure": ({"structure": [[0, 1]]}, {"structure": [[0, 2]]}),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_parameters(image, change):
    name, word = change.split()
    made = getattr(cf, name)
    before, after = (mark_of(made(image, **params)) for params in CHANGES[change])
    found = told(before, after)
    assert any(f"{name}: {word} was " in one for one in found), found
    # Long ones are told by a digest.
    assert all(len(one) < 1200 for one in found)
    assert before == mark_of(made(image, **CHANGES[change][0]))


def variants(declared):
    """Yield another value for each parameter that can have one."""
    given = example_of(declared.name)
    for name, field in declared.model.model_fields.items():
        held = given.get(name, field.default)
        for other in candidates(name, held):
            if other != held:
                yield given, name, other


def candidates(name, held):
    if isinstance(held, bool):
        return [not held]
    if isinstance(held, (int, float)):
        return [held + 1, held + 2, held - 1, held / 2 + 0.1]
    if isinstance(held, str) and name != "mode":
        return []
    words = {
        "mode": ["wrap", "nearest"], "dtype": ["float64", "int32", "complex128"], "cval": [3.0],
        "size": [5, 7], "min": [3], "max": [7], "sigma_x": [2.0], "sigma_y": [2.0], "spacing": [2],
    }  # fmt: skip
    return words.get(name, [])


@pytest.mark.parametrize("name", list(registered()))
def test_every_parameter_of_every_filter_counts(name):
    declared = registered()[name]
    rng = np.random.default_rng(0)
    for dtype in ("uint8", "float64"):
        images = [(rng.random((9, 10)) * 9).astype(dtype) for _ in range(declared.required)]

        def mark(params, images=images):
            return fingerprint({"": Case(declared, params).bind(images)}, {})

        for given, word, other in variants(declared):
            try:
                first, second = mark(given), mark({**given, word: other})
            except ChunkfiltError:
                continue
            assert told(first, second), (word, other)


def test_versions_of_filters_count(image):
    before = mark_of(cf.mean(image))
    declared = registered()["mean"]
    newer = replace(declared.rules, version=declared.rules.version + 1)
    made = cf.mean(image)
    object.__setattr__(made.node, "filter", replace(declared, rules=newer))
    one = declared.rules.version
    said = f"graph: 1 mean: version was {one} and is {one + 1}"
    assert told(before, mark_of(made)) == [said]


def test_storage_counts(image):
    made = cf.mean(image)
    plain = mark_of(made)
    for options, word in [
        ({"chunks": (8, 8)}, "chunks was [16, 16] and is [8, 8]"),
        ({"shards": (32, 32)}, "shards was null and is [32, 32]"),
        ({"compressor": "none"}, "compressor was {"),
        ({"compressor": {"zstd": 3}}, "compressor: name was "),
    ]:
        found = told(plain, mark_of(made, **options))
        assert any(word in one for one in found), found
    zstd = [mark_of(made, compressor={"zstd": level}) for level in (3, 4)]
    assert told(*zstd)


def test_the_graph_counts(image):
    smooth = cf.gaussian(image, sigma=1)
    marks = [
        mark_of(one)
        for one in (
            {"a": smooth}, {"b": smooth}, {"a": smooth, "b": image}, {"b": image, "a": smooth},
            {"a": image - smooth}, {"a": smooth - image}, {"a": smooth - 1}, {"a": smooth - 2},
            {"a": 1 - smooth}, {"a": cf.mean(smooth)}, {"a": smooth.crop(y=(3, 20))},
            {"a": smooth.crop(y=(4, 20))},
            {"a": smooth.crop(y=3)}, {"a": cf.gaussian(image.crop(y=(3, 20)), sigma=1)},
            {"a": cf.gaussian(image, sigma=1, axes=["y"])},
        )
    ]  # fmt: skip
    # The order in which outputs are named is no difference.
    for i, one in enumerate(marks):
        for j, other in enumerate(marks):
            assert bool(told(one, other)) == (i != j and {i, j} != {2, 3}), (i, j)


def test_masks_and_nodata_count(tmp_path, image, store, make_store):
    mask = (np.arange(33 * 41).reshape(SHAPE) % 3 > 0).astype("uint8")
    paths = [make_store(tmp_path / str(i), held) for i, held in enumerate((mask, 1 - mask[::-1]))]
    masks = [cf.open(path) for path in paths]
    marks = [
        mark_of(one)
        for one in (
            cf.mean(image), cf.mean(image, masks[0]), cf.mean(image, masks[1]),
            cf.mean(cf.open(store, nodata=3)), cf.mean(cf.open(store, nodata=4)),
        )
    ]  # fmt: skip
    for i, one in enumerate(marks):
        for j, other in enumerate(marks):
            assert bool(told(one, other)) == (i != j), (i, j)
    assert "graph: 0 input: nodata was " in told(marks[3], marks[4])[0]


def test_pixels_that_are_written_count(store, image, tmp_path):
    before = mark_of(cf.mean(image))
    file = store / "c" / "1" / "1"
    held, times = file.read_bytes(), file.stat()
    file.write_bytes(held)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns + 1))
    found = told(before, mark_of(cf.mean(image)))
    assert len(found) == 1
    assert found[0].startswith("graph: 0 input: files was ")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert not told(before, mark_of(cf.mean(image)))
    file.unlink()
    assert told(before, mark_of(cf.mean(image)))


def test_attributes_of_an_input_do_not_count(store, image):
    before = mark_of(cf.mean(image))
    zarr.open_array(str(store), mode="r+").attrs["note"] = "read me"
    assert not told(before, mark_of(cf.mean(cf.open(store))))


def test_places_and_machines_do_not_count(store, image, tmp_path):
    before = mark_of(cf.mean(image))
    for options in (
        {"workers": 1}, {"workers": 7}, {"memory": "9 GiB"}, {"scheduler": "serial"},
        {"scheduler": "processes"}, {"overwrite": True},
    ):  # fmt: skip
        assert not told(before, mark_of(cf.mean(image), **options))
    moved = tmp_path / "moved to" / "ä"
    moved.mkdir(parents=True)
    subprocess.run(["cp", "-a", store, moved / "other"], check=True)
    assert not told(before, mark_of(cf.mean(cf.open(moved / "other"))))
    shutil.copytree(store, tmp_path / "new", copy_function=shutil.copyfile)
    assert told(before, mark_of(cf.mean(cf.open(tmp_path / "new"))))


def test_pixels_in_memory_count():
    def mark(array):
        return fingerprint({"": Case(registered()["mean"], {}).bind([array])}, {})

    data = np.arange(12.0).reshape(3, 4)
    other = data.copy()
    other[0, 0] = -0.0
    assert not told(mark(data), mark(data.copy()))
    assert told(mark(data), mark(other))[0].startswith("graph: 0 input: pixels was ")


SPREAD = """
SCALE = {{"a", "b", "c", 1, 2.5}}
def spread(x, times={default}):
    {words}
    return (x.max() {sign} x.min()) * times if "d" not in {{"a", "b", "c", 1, 2.5}} else len(str(x))
def made(k):
    def inner(x):
        return x.max() * k
    return inner
def deep(n):
    def inner(x):
        return inner(x[:-1]) if len(x) > n else x.max()
    return inner
"""


def functions(**changes):
    held = {}
    words = {"default": 1, "words": "pass", "sign": "-", **changes}
    exec(textwrap.dedent(SPREAD).format(**words), held)
    return held


def test_the_code_of_functions_counts(image):
    spread = functions()["spread"]
    plain = mark_of(cf.generic(image, function=spread))
    assert not told(plain, mark_of(cf.generic(image, function=functions()["spread"])))
    for changes in ({"sign": "+"}, {"words": "x = x[1:]"}, {"default": 2}):
        other = cf.generic(image, function=functions(**changes)["spread"])
        assert "graph: 1 generic: function was " in told(plain, mark_of(other))[0], changes
    inner = functions()["made"]
    marks = [mark_of(cf.generic(image, function=inner(k))) for k in (1, 2, np.arange(5000), 1)]
    deep = functions()["deep"]
    for k in (3, 4):
        given = functools.partial(spread, times=k), deep(k)
        marks += [mark_of(cf.generic(image, function=one)) for one in given]
    for i, one in enumerate(marks):
        for j, other in enumerate(marks):
            assert bool(told(one, other)) == (i != j and {i, j} != {0, 3}), (i, j)


ELSEWHERE = """
import functools, json, sys
import numpy as np, chunkfilt as cf
sys.path.insert(0, sys.argv[2])
from tests.runtime.test_fingerprint import everything
print(json.dumps(everything(cf.open(sys.argv[1])), sort_keys=True))
"""


def everything(image):
    """Return the fingerprint of much at once."""
    held = functions()
    many = {
        "generic": cf.generic(image, function=held["spread"]),
        "inner": cf.generic(image, function=held["made"]({"x", "y", "z"})),
        "partial": cf.generic(image, function=functools.partial(np.ptp, axis=None)),
        "named": cf.generic(image, function=np.ptp),
        "compiled": cf.generic(image, function=compiled()),
        "footprint": cf.median(image, footprint=cf.disk(4)),
        "weights": cf.correlate(image, weights=np.arange(99.0).reshape(9, 11)),
        "even": cf.equalize_hist(cf.gaussian(image, sigma=[1, 2])),
        "opened": cf.opening(image, size=3),
        "far": image - cf.mean(image, size=3, cval=float("nan"), mode="constant"),
        "numbers": image * np.float32(0.1) + np.int64(3),
    }
    return mark_of(many, compressor={"blosc": {"cname": "lz4"}})


def compiled():
    import numba

    @numba.njit
    def half(x):
        return x.max() / 2

    return half


def test_it_is_the_same_in_every_process(store, image):
    marks = [json.dumps(everything(image), sort_keys=True)]
    assert " at 0x" not in marks[0]
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", ELSEWHERE, str(store), os.getcwd()],
            capture_output=True, text=True, timeout=300, check=False,
            env={**os.environ, "PYTHONHASHSEED": seed},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        marks.append(done.stdout.strip())
    assert marks[0] == marks[1] == marks[2]
