"""Is an output what was written, and are two images the same?"""

import json
import math
import shutil

import numpy as np
import pytest
import zarr

import chunkfilt as cf
from chunkfilt.arrays.checking import compare_stores
from chunkfilt.errors import InputError, StoppedError, StorageError
from chunkfilt.runtime import verify as verifying
from chunkfilt.runtime.ledger import _SUM, _sum
from chunkfilt.runtime.verify import compare, verify
from chunkfilt.storage.zarr_output import run_folder
from chunkfilt.storage.zarr_store import open_image

OFF = {"fail": False}


@cf.image_filter(name="_verify_failing")
def failing(block):
    """Give the pixels, or fail."""
    if OFF["fail"]:
        raise ZeroDivisionError
    return block


def one(image, place):
    return cf.mean(image).save(place, chunks=(16, 16), progress=False)


def from_yaml(image, place):
    job = place.with_name("job.yaml")
    job.write_text(f"version: 1\ninput: in.zarr\nsteps: [mean]\noutput: {place.name}\n")
    return cf.run_yaml(job, progress=False)


def group(image, place):
    outputs = {"b": cf.mean(image), "a": cf.median(image), "s": cf.statistics(image)}
    return cf.save(outputs, place, chunks=(16, 16), progress=False)


def sharded(image, place):
    return cf.mean(image).save(place, chunks=(8, 8), shards=(16, 16), progress=False)


KINDS = {"one": one, "yaml": from_yaml, "group": group, "sharded": sharded}
# An array of 40 x 50 has 12 files of 16 x 16.
UNITS = {"one": 12, "yaml": 12, "group": 24, "sharded": 12}


@pytest.fixture
def save(mosaic, tmp_path):
    def make(kind):
        return KINDS[kind](cf.open(mosaic), tmp_path / "o.zarr")

    return make


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("folder", [True, False])
def test_what_is_as_written_has_no_problems(save, kind, folder):
    result = save(kind)
    if not folder:
        shutil.rmtree(run_folder(result.path))
    found = verify(result.path)
    assert found.problems == ()
    assert found.units == UNITS[kind]
    assert found.checksums == result.checksums


def gone(file):
    file.unlink()
    return "is missing"


def short(file):
    file.write_bytes(file.read_bytes()[:-3])
    return f"is {file.stat().st_size} bytes instead of {file.stat().st_size + 3}"


def flipped(file):
    held = bytearray(file.read_bytes())
    held[len(held) // 2] ^= 4
    file.write_bytes(held)
    return "is not what was written"


def a_folder(file):
    file.unlink()
    file.mkdir()
    return "instead of "


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("hurt", [gone, short, flipped, a_folder])
def test_a_file_that_is_not_is_named(save, kind, hurt):
    result = save(kind)
    array = result.path / "a" if kind == "group" else result.path
    said = hurt(array / "c" / "1" / "2")
    found = verify(result.path)
    assert len(found.problems) == 1
    assert found.problems[0].startswith(f"{array}/c/1/2 (y 16:32, x 32:48) ")
    assert said in found.problems[0]


def test_a_file_too_many_is_named(tmp_path, make_store):
    path = make_store(tmp_path / "in", np.zeros((32, 32), "u2"))
    result = cf.maximum(cf.open(path)).save(tmp_path / "o", progress=False)
    assert not (result.path / "c").exists()
    assert verify(result.path).problems == ()
    assert verify(result.path).units == 4
    (result.path / "c" / "0").mkdir(parents=True)
    (result.path / "c" / "0" / "1").write_bytes(b"pixels")
    (problem,) = verify(result.path).problems
    assert problem.endswith("c/0/1 (y 0:16, x 16:32) should not exist")


@pytest.mark.parametrize("kind", KINDS)
def test_without_the_records_the_pixels_are_read(save, kind):
    result = save(kind)
    shutil.rmtree(run_folder(result.path))
    name = "a" if kind == "group" else ""
    array = zarr.open_array(str(result.path / name))
    array[3, 4] = array[3, 4] + 1
    (problem,) = verify(result.path).problems
    assert problem.startswith(f"{name or 'the image'}: its checksum is ")
    (result.path / name / "zarr.json").touch()
    array[3, 4] = array[3, 4] - 1
    assert verify(result.path).problems == ()


def test_attributes_that_say_something_else(save):
    result = save("one")
    held = zarr.open_array(str(result.path), mode="r+")
    record = {**held.attrs["chunkfilt"], "checksums": {"": "0" * 16}}
    held.attrs["chunkfilt"] = record
    for _ in range(2):
        (problem,) = verify(result.path).problems
        assert problem == (
            f"the image: its checksum is {result.checksums['']}, {'0' * 16} was written"
        )
        shutil.rmtree(run_folder(result.path), ignore_errors=True)


@pytest.mark.parametrize("folder", [True, False])
def test_an_output_that_was_never_finished(mosaic, tmp_path, folder):
    OFF["fail"] = True
    try:
        with pytest.raises(StoppedError):
            failing(cf.open(mosaic)).save(tmp_path / "o", chunks=(16, 16), progress=False)
    finally:
        OFF["fail"] = False
    if not folder:
        shutil.rmtree(run_folder(tmp_path / "o"))
    problems = verify(tmp_path / "o").problems
    assert problems[0] == "the run was stopped before its end"
    if folder:
        (left,) = problems[1:]
        assert left.endswith("(y 0:16, x 0:16) and 11 more: no record that it was written")


def test_lines_that_are_gone(save):
    result = save("group")
    (ledger,) = [file for file in run_folder(result.path).glob("ledger-*") if file.stat().st_size]
    ledger.write_text(ledger.read_text().splitlines(keepends=True)[0])
    found = verify(result.path)
    assert sum("and 11 more: no record that it was written" in p for p in found.problems) == 2
    assert sum("its checksum is" in p for p in found.problems) == 2


def test_lines_of_no_such_unit(save):
    result = save("one")
    (ledger,) = run_folder(result.path).glob("ledger-*")
    with ledger.open("a") as out:
        for unit in ("9999:0000000000000000:-", "9999:0000000000000000:5:00000000"):
            text = json.dumps({"block": 99, "units": {"": [unit]}})
            out.write(f'{text[:-1]}{_SUM}{_sum(text)}"}}\n')
    assert verify(result.path).problems == ()


def test_values_alone(mosaic, tmp_path):
    result = cf.save(cf.statistics(cf.open(mosaic)), tmp_path / "o", progress=False)
    found = verify(result.path)
    assert (found.units, found.problems, found.checksums) == (0, (), {})


def test_an_image_without_pixels(tmp_path, make_store):
    path = make_store(tmp_path / "in", np.zeros((0, 5), "u2"))
    for folder in (True, False):
        result = cf.mean(cf.open(path)).save(tmp_path / "o", overwrite=True, progress=False)
        if not folder:
            shutil.rmtree(run_folder(result.path))
        assert verify(result.path).problems == ()


@pytest.mark.parametrize("note", [None, 3, {}, {"finished": True}, {"versions": 3}])
def test_a_store_of_others(make_store, tmp_path, note):
    attributes = {} if note is None else {"chunkfilt": note}
    path = make_store(tmp_path / "a", np.zeros((4, 5)), attributes=attributes)
    with pytest.raises(StorageError, match="was not written by chunkfilt"):
        verify(path)


def test_no_store(tmp_path):
    with pytest.raises(StorageError, match="no such file"):
        verify(tmp_path / "nowhere")
    with pytest.raises(StorageError, match="not a Zarr store"):
        verify(tmp_path)


# Two images.


def oracle(a, b):
    """Return what `compare` must find, from whole arrays."""
    both_nan = np.zeros(a.shape, bool)
    if a.dtype.kind in "fc" and b.dtype.kind in "fc":
        both_nan = np.isnan(a) & np.isnan(b)
    places = [tuple(map(int, at)) for at in np.argwhere((a != b) & ~both_nan)]
    by = {at: distance(a[at].item(), b[at].item()) for at in places}
    largest = max(by.values(), default=0.0)
    return len(places), largest, {at for at in places if by[at] == largest}


def distance(x, y):
    if isinstance(x, (bool, int)) and isinstance(y, (bool, int)):
        return float(abs(int(x) - int(y)))
    apart = abs(x - y)
    return math.inf if math.isnan(apart) else apart


def check(tmp_path, make_store, a, b, chunks=(7, 9), others=(16, 5)):
    paths = [
        make_store(tmp_path / "a", a, chunks=chunks),
        make_store(tmp_path / "b", b, chunks=others),
    ]
    found = compare(*map(open_image, paths))
    count, largest, worst = oracle(a, b)
    assert (found.pixels, found.different) == (a.size, count)
    assert found.largest == pytest.approx(largest, rel=1e-15)
    told = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert told["equal"] == (count == 0)
    if count:
        assert found.worst in worst
        assert a[found.first].item() != b[found.first].item()
        assert "pixels differ" in str(found)
    else:
        assert (found.first, found.worst) == (None, None)
        assert str(found) == f"equal, {a.size} pixels"
    return found


DTYPES = ["bool", "uint8", "int8", "uint16", "int32", "uint64", "int64", "float16", "float32",
          "float64", "complex64", "complex128"]  # fmt: skip


def some(dtype, seed):
    rng = np.random.default_rng(seed)
    dtype = np.dtype(dtype)
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return rng.integers(info.min, info.max, (20, 30), dtype=dtype, endpoint=True)
    held = rng.normal(size=(20, 30)) + 1j * rng.normal(size=(20, 30))
    real = held.real > 0 if dtype.kind == "b" else held.real
    return (held if dtype.kind == "c" else real).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype(tmp_path, make_store, dtype):
    a = some(dtype, 0)
    check(tmp_path / "1", make_store, a, a.copy())
    check(tmp_path / "2", make_store, a, some(dtype, 1))
    b = a.copy()
    b[13, 17] = not b[13, 17] if dtype == "bool" else b[13, 17] + 1
    found = check(tmp_path / "3", make_store, a, b)
    assert (found.first, found.worst) == ((13, 17), (13, 17))


@pytest.mark.parametrize(
    ("dtypes", "pixels"),
    [
        (("uint64", "uint64"), ([0, 2**64 - 1], [2**64 - 1, 2**64 - 2])),
        (("int64", "int64"), ([-(2**63), 2**63 - 1], [2**63 - 1, 2**63 - 1])),
        (("int64", "uint64"), ([-1, 5], [2**64 - 1, 5])),
        (("uint64", "int64"), ([2**63, 2**53 + 1], [-(2**63), 2**53 + 1])),
        (("uint64", "int64"), ([2**60 + 1, 3], [2**60, 3])),
        (("int64", "float64"), ([2**53 + 1, 3], [2.0**53, 3.0])),
        (("uint8", "int8"), ([255, 3], [-1, 3])),
        (("uint8", "float32"), ([255, 3], [255.0, 3.5])),
        (("bool", "uint8"), ([True, False], [1, 7])),
        (("float32", "float64"), ([0.1, 3], [0.1, 3])),
        (("float64", "complex128"), ([1, 2], [1, 2 + 3j])),
        (("float64", "float64"), ([math.nan, math.inf], [math.nan, math.inf])),
        (("float64", "float64"), ([math.nan, 1], [0.0, 1])),
        (("float64", "float64"), ([-math.inf, 1], [math.inf, 2])),
        (("float64", "float64"), ([1e308, 0.0], [-1e308, -0.0])),
        (("float64", "float64"), ([5e-324, 1], [0.0, 1])),
        (("float32", "float32"), ([math.nan, -math.inf], [math.nan, 5])),
        (("complex64", "complex64"), ([complex(math.nan, 1), 1], [complex(2, math.nan), 1j])),
        (("uint8", "float32"), ([1, 2], [math.nan, 2])),
        (("complex128", "uint8"), ([1 + 0j, 2j], [1, 2])),
    ],
)
def test_extremes(tmp_path, make_store, dtypes, pixels):
    a, b = (np.array([held], dtype) for dtype, held in zip(dtypes, pixels, strict=True))
    check(tmp_path, make_store, a, b, (1, 1), (1, 2))


def test_first_and_worst_of_many_chunks(tmp_path, make_store, monkeypatch):
    # Blocks of a few chunks, so that there are many, which end in any order.
    monkeypatch.setattr(verifying, "_PIXELS", 64)
    a = np.random.default_rng(0).integers(0, 200, (96, 96)).astype("u1")
    for places in ([(95, 95)], [(40, 3), (41, 2)], [(0, 95), (95, 0), (50, 50)], []):
        b = a.copy()
        for number, at in enumerate(places, 1):
            b[at] += number
        shutil.rmtree(tmp_path / "it", ignore_errors=True)
        found = check(tmp_path / "it", make_store, a, b, (4, 4), (96, 1))
        if places:
            assert found.first == places[0]
            assert found.worst == places[-1]
    # The same distance twice: the first of them.
    b = a.copy()
    b[[10, 90], [5, 90]] += 7
    found = check(tmp_path / "twice", make_store, a, b, (4, 4), (8, 8))
    assert found.worst == (10, 5)


def test_infinitely_far_apart_in_the_same_block(tmp_path, make_store):
    a = np.zeros((8, 8))
    b = a.copy()
    b[3, 3], b[5, 5] = 7, math.nan
    found = check(tmp_path, make_store, a, b)
    assert (found.first, found.worst) == ((3, 3), (5, 5))
    assert found.as_dict()["largest"] == "Infinity"
    assert "by inf at most" in str(found)


@pytest.mark.parametrize("shape", [(0, 5), (1, 1), (1, 17), (7,), (2, 1, 1, 3, 5)])
def test_odd_shapes(tmp_path, make_store, make_pixels, shape):
    a = make_pixels(shape)
    paths = [make_store(tmp_path / name, a) for name in "ab"]
    assert compare(*map(open_image, paths)).as_dict()["equal"] is True


def test_shapes_that_differ(tmp_path, make_store, make_pixels):
    paths = [make_store(tmp_path / str(n), make_pixels((4, n))) for n in (5, 6)]
    with pytest.raises(InputError, match=r"shapes differ: .*\(4, 5\).*\(4, 6\)"):
        compare(*map(open_image, paths))


def test_groups(mosaic, tmp_path):
    image = cf.open(mosaic)
    outputs = {"b": cf.mean(image), "a": cf.median(image)}
    first = cf.save(outputs, tmp_path / "1", chunks=8, progress=False).path
    second = cf.save(outputs, tmp_path / "2", progress=False).path
    assert {n: d.different for n, d in compare_stores(first, second).items()} == {"a": 0, "b": 0}
    zarr.open_array(str(second / "a"))[5, 6] += 2
    found = compare_stores(first, second)["a"]
    assert (found.different, found.largest, found.first, found.worst) == (1, 2, (5, 6), (5, 6))
    with pytest.raises(InputError, match=r"1 holds a, b; .*in\.zarr holds one array"):
        compare_stores(first, mosaic)


def test_a_chunk_that_cannot_be_read_is_no_difference(tmp_path, make_store, make_pixels):
    paths = [make_store(tmp_path / name, make_pixels((40, 40))) for name in "ab"]
    (paths[0] / "c" / "1" / "1").write_bytes(b"damage")
    with pytest.raises(cf.errors.RunError, match="cannot read chunk c/1/1"):
        compare(*map(open_image, paths))
