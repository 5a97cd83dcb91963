"""Are two images the same, and if not, where and by how much?"""

import json
import math
import shutil

import numpy as np
import pytest
import tifffile
import zarr

import chunkfilt as cf
from chunkfilt.arrays.checking import compare_stores
from chunkfilt.errors import InputError, RunError
from chunkfilt.runtime import verify as verifying
from chunkfilt.runtime.verify import compare
from chunkfilt.storage.images import open_image


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


def test_a_tiff_file(tmp_path, make_store, make_pixels):
    a, b = make_pixels((40, 50), "u2"), make_pixels((20, 30), "u1")
    b[3, 4] = 5
    with tifffile.TiffWriter(tmp_path / "two.tif") as writer:
        for one in (a, b):
            writer.write(one, metadata=None)
    tifffile.imwrite(tmp_path / "one.tif", a)
    zarr.create_group(str(tmp_path / "two"))
    for name, one in (("0", a), ("1", b)):
        make_store(tmp_path / "two" / name, one)
    assert not any(
        d.different for d in compare_stores(tmp_path / "two.tif", tmp_path / "two").values()
    )
    zarr.open_array(str(tmp_path / "two" / "1"))[3, 4] = 7
    found = compare_stores(tmp_path / "two.tif", tmp_path / "two")
    assert found.keys() == {"0", "1"}
    assert (found["0"].different, found["1"].first, found["1"].largest) == (0, (3, 4), 2)
    assert compare_stores(tmp_path / "one.tif", tmp_path / "two" / "0")[""].different == 0


def test_a_chunk_that_cannot_be_read_is_no_difference(tmp_path, make_store, make_pixels):
    paths = [make_store(tmp_path / name, make_pixels((40, 40))) for name in "ab"]
    (paths[0] / "c" / "1" / "1").write_bytes(b"damage")
    with pytest.raises(RunError, match="cannot read chunk c/1/1"):
        compare(*map(open_image, paths))
