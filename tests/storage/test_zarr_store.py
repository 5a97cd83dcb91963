"""Zarr stores as images: what is read, what is written, and what is never touched."""

import json
import shutil
import warnings
from pathlib import Path

import numcodecs
import numpy as np
import pytest
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec, GzipCodec, ZstdCodec

import chunkfilt as cf
from chunkfilt.errors import InputError, RunError, StorageError, UnfinishedWarning
from chunkfilt.grid import Region
from chunkfilt.storage.images import open_image, open_images
from chunkfilt.storage.stored import pick


def read(path, array=None):
    """Return all pixels as one read and as several, which must agree."""
    image = open_image(path, array)
    whole = image.read(Region.whole(image.spec.shape))
    half = tuple(n // 2 for n in image.spec.shape)
    part = image.read(Region(half, image.spec.shape))
    np.testing.assert_array_equal(part, whole[tuple(slice(n, None) for n in half)])
    return whole


LAYOUTS = {
    "v3": {},
    "v3-sharded": {"shards": (14, 24)},
    "v3-none": {"compressors": None},
    "v3-blosc": {"compressors": BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle")},
    "v3-gzip": {"compressors": GzipCodec(level=3)},
    "v3-crc": {"compressors": [ZstdCodec(level=1), Crc32cCodec()]},
    "v2": {"zarr_format": 2},
    "v2-none": {"zarr_format": 2, "compressors": None},
    "v2-blosc": {"zarr_format": 2, "compressors": numcodecs.Blosc("zstd", 3, -1)},
    "v2-gzip": {"zarr_format": 2, "compressors": numcodecs.GZip(4)},
    "v2-zlib": {"zarr_format": 2, "compressors": numcodecs.Zlib(2)},
    "v2-fortran": {"zarr_format": 2, "order": "F"},
}


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int64", "float32", "float64", "bool"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_pixels(tmp_path, make_store, make_pixels, layout, dtype):
    data = make_pixels((33, 50), dtype)
    path = make_store(tmp_path / "a.zarr", data, chunks=(7, 12), **LAYOUTS[layout])
    found = read(path)
    np.testing.assert_array_equal(found, data)
    assert found.dtype == data.dtype
    image = open_image(path)
    assert image.zarr_format == (2 if "v2" in layout else 3)
    assert image.shards == ((14, 24) if "shard" in layout else None)
    assert image.unit == ((14, 24) if "shard" in layout else (7, 12))


def test_a_delta_filter_of_v2(tmp_path, make_store):
    data = np.arange(600, dtype="int32").reshape(20, 30) * 7
    path = make_store(
        tmp_path / "a", data, zarr_format=2, filters=[numcodecs.Delta("int32")],
        compressors=numcodecs.Zstd(1),
    )  # fmt: skip
    np.testing.assert_array_equal(read(path), data)
    made = cf.maximum(cf.open(path), size=1).save(tmp_path / "b", progress=False)
    np.testing.assert_array_equal(read(made.path), data)


@pytest.mark.parametrize("dtype", [">u2", ">f4", ">i8"])
def test_big_endian_pixels_are_filtered_as_their_values(tmp_path, make_store, make_pixels, dtype):
    data = make_pixels((20, 30), np.dtype(dtype).newbyteorder("="))
    path = make_store(tmp_path / "a", data.astype(dtype), zarr_format=2)
    np.testing.assert_array_equal(read(path), data)
    made = cf.maximum(cf.open(path), size=1)
    np.testing.assert_array_equal(made[:], data)
    result = made.save(tmp_path / "b", progress=False)
    np.testing.assert_array_equal(zarr.open_array(str(result.path))[:], data)


@pytest.mark.parametrize("dtype", ["complex64", ">c8", "complex128", ">c16"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_complex_numbers(tmp_path, make_store, dtype, order):
    data = (np.arange(600).reshape(20, 30) * (1 + 2j)).astype(dtype)
    path = make_store(tmp_path / "a", data, zarr_format=2, order=order)
    found = read(path)
    np.testing.assert_array_equal(found, data)
    assert found.dtype.isnative


@pytest.mark.parametrize("layout", ["v3", "v3-sharded", "v2", "v2-fortran"])
@pytest.mark.parametrize("fill", [0, 7])
def test_missing_chunks_are_fill_values(tmp_path, layout, fill):
    options = dict(LAYOUTS[layout])
    held = zarr.create_array(
        str(tmp_path / "a"), shape=(28, 48), dtype="uint16", chunks=(7, 12), fill_value=fill,
        **options,
    )  # fmt: skip
    expected = np.full((28, 48), fill, "uint16")
    np.testing.assert_array_equal(read(tmp_path / "a"), expected)
    held[7:14, 12:24] = expected[7:14, 12:24] = 5
    np.testing.assert_array_equal(read(tmp_path / "a"), expected)


def chunk_files(path):
    marks = {"zarr.json", ".zarray", ".zattrs", ".zgroup"}
    return sorted(p for p in path.rglob("*") if p.is_file() and p.name not in marks)


@pytest.mark.parametrize("layout", ["v3", "v3-sharded", "v3-none", "v3-crc", "v2", "v2-gzip"])
@pytest.mark.parametrize("harm", ["truncated", "emptied", "folder"])
def test_a_corrupted_chunk_is_an_error_never_pixels(
    tmp_path, make_store, make_pixels, layout, harm
):
    path = make_store(tmp_path / "a.zarr", make_pixels((28, 48)), chunks=(7, 12), **LAYOUTS[layout])
    victim = chunk_files(path)[0]
    raw = victim.read_bytes()
    if harm == "folder":
        victim.unlink()
        victim.mkdir()
    else:
        victim.write_bytes(b"" if harm == "emptied" else raw[: len(raw) // 2])
    with pytest.raises(RunError, match=r"a\.zarr"):
        read(path)


@pytest.mark.parametrize("region", [((0, 0), (28, 48)), ((0, 0), (13, 24)), ((3, 3), (9, 30))])
@pytest.mark.parametrize(
    "codecs",
    [
        [ZstdCodec(level=1), Crc32cCodec()],
        [Crc32cCodec()],
        [ZstdCodec(level=1, checksum=True)],
        [GzipCodec(level=1)],
    ],
)
def test_a_flipped_byte_under_a_checksum(tmp_path, make_store, make_pixels, codecs, region):
    path = make_store(
        tmp_path / "a.zarr", make_pixels((28, 48)), chunks=(14, 24), compressors=codecs
    )
    victim = path / "c" / "0" / "0"
    raw = bytearray(victim.read_bytes())
    raw[len(raw) // 2] ^= 0x10
    victim.write_bytes(bytes(raw))
    with pytest.raises(RunError, match=r"a\.zarr"):
        open_image(path).read(Region(*region))


@pytest.mark.parametrize(
    "options",
    [
        {"compressors": [ZstdCodec(level=1), Crc32cCodec()], "shards": (14, 24)},
        {"compressors": numcodecs.Zstd(1), "filters": [numcodecs.CRC32()], "zarr_format": 2},
        {"compressors": None, "filters": [numcodecs.Fletcher32()], "zarr_format": 2},
        {"compressors": numcodecs.Zlib(1), "zarr_format": 2},
    ],
)
def test_a_byte_flipped_anywhere_never_gives_other_pixels(tmp_path, make_store, options):
    data = np.arange(14 * 24, dtype="uint16").reshape(14, 24) % 50
    path = make_store(tmp_path / "a.zarr", data, chunks=(7, 12), **options)
    image = open_image(path)
    files = {file: file.read_bytes() for file in chunk_files(path)}
    caught = 0
    for file, raw in files.items():
        for at in range(0, len(raw), 7):
            file.write_bytes(raw[:at] + bytes([raw[at] ^ 0x10]) + raw[at + 1 :])
            try:
                np.testing.assert_array_equal(image.read(Region((3, 3), (9, 20))), data[3:9, 3:20])
            except RunError:
                caught += 1
        file.write_bytes(raw)
    assert caught


def test_whole_chunks_are_read_only_where_a_checksum_needs_it(tmp_path, make_store):
    data = np.arange(600.0).reshape(20, 30)
    for layout, options in LAYOUTS.items():
        path = make_store(tmp_path / layout, data, chunks=(7, 12), **options)
        assert open_image(path).whole_chunks == (layout == "v3-crc")


def test_names_of_axes(tmp_path, make_store):
    data = np.zeros((2, 3, 4, 5, 6), "uint8")
    named = open_image(make_store(tmp_path / "a", data, dims=["t", "c", "z", "y", "x"])).spec
    assert (named.axes, named.spatial) == (("t", "c", "z", "y", "x"), (2, 3, 4))
    bare = open_image(make_store(tmp_path / "b", data[0, 0])).spec
    assert (bare.axes, bare.spatial) == (("z", "y", "x"), (0, 1, 2))
    five = open_image(make_store(tmp_path / "c", data)).spec
    assert five.axes == ("d0", "d1", "z", "y", "x")
    other = open_image(make_store(tmp_path / "d", data[0, 0], dims=["lat", "y", "lon"])).spec
    assert (other.axes, other.spatial) == (("lat", "y", "lon"), (1,))
    none = open_image(make_store(tmp_path / "e", data[0, 0], dims=["a", "b", "c"])).spec
    assert none.spatial == (0, 1, 2)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_names_of_axes_as_xarray_writes_them(tmp_path, make_store, zarr_format):
    path = make_store(tmp_path / "a", np.zeros((3, 4, 5)), zarr_format=zarr_format,
                      attributes={"_ARRAY_DIMENSIONS": ["c", "y", "x"]})  # fmt: skip
    spec = open_image(path).spec
    assert (spec.axes, spec.spatial) == (("c", "y", "x"), (1, 2))


@pytest.mark.parametrize("wrong", [["y"], ["y", "y"], 5, "yx2", [1, 2], None, {"a": 1}])
def test_wrong_names_of_axes_are_left_aside(tmp_path, make_store, wrong):
    attributes = {"_ARRAY_DIMENSIONS": wrong}
    path = make_store(tmp_path / "a", np.zeros((4, 5)), zarr_format=2, attributes=attributes)
    assert open_image(path).spec.axes == ("y", "x")


def make_group(path, *names):
    zarr.create_group(str(path))
    for name in names:
        if "/" in name:
            zarr.create_group(str(path / name).rpartition("/")[0])
            zarr.create_group(str(path / name.split("/")[0]))
    for number, name in enumerate(names):
        zarr.create_array(str(path / name), data=np.full((4, 5), number, "uint8"))
    return path


def test_plain_folders_in_a_group_are_left_aside(tmp_path):
    path = make_group(tmp_path / "g.zarr", "a")
    (path / "tables").mkdir()
    (path / "tables" / "h.csv").write_text("1,2\n")
    assert list(open_images(path)) == ["a"]
    assert (read(path) == 0).all()


@pytest.mark.parametrize("axes", ["y", "yy", "yxz", ["y", 3], ["", "x"], [["y"], "x"]])
def test_wrong_names_of_axes_from_the_user_are_refused(tmp_path, make_store, axes):
    path = make_store(tmp_path / "a", np.zeros((4, 5)))
    with pytest.raises(StorageError, match="axes must be 2 different names"):
        open_image(path, axes=axes)


@pytest.mark.parametrize("opens", [open_image, cf.open])
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"array": 0}, 'array must be a text such as "0", got 0'),
        ({"array": ["a"]}, r"array must be a text .* got \['a'\]"),
        ({"axes": 5}, 'axes must be names such as "zyx", got 5'),
        ({"axes": b"yx"}, "axes must be 2 different names"),
        ({"spatial": 5}, 'spatial must be names such as "zyx", got 5'),
        ({"spatial": True}, "spatial must be names"),
        ({"spatial": [5]}, "has no axis 5; its axes are y, x"),
    ],
)
def test_options_of_another_kind(mosaic, opens, options, said):
    with pytest.raises(StorageError, match=said):
        opens(mosaic, **options)


def test_names_of_axes_in_one_text(mosaic):
    spec = open_image(mosaic, axes="ab", spatial="b").spec
    assert (spec.axes, spec.spatial) == (("a", "b"), (1,))
    assert open_image(mosaic, axes=(name for name in "ab")).spec.axes == ("a", "b")


@pytest.mark.parametrize(
    ("dtype", "given", "held"),
    [
        ("uint16", np.uint16(7), 7),
        ("uint16", 7.0, 7),
        ("float32", np.int8(-3), -3.0),
        ("float32", np.float32(0.1), float(np.float32(0.1))),
        ("float64", np.inf, np.inf),
        ("float64", 0, 0.0),
    ],
)
def test_a_nodata_value(tmp_path, make_store, dtype, given, held):
    path = make_store(tmp_path / "a", np.zeros((4, 5), dtype), attributes={"nodata": 3})
    found = open_image(path, nodata=given).spec.nodata
    assert (type(found), found) == (type(held), held)
    assert open_image(path).spec.nodata == 3


@pytest.mark.parametrize(
    "given",
    ["7", "nan", True, np.True_, [7], np.array([7]), {}, 7j, np.complex64(7), 7.5, -1, np.nan,
     np.float32(np.inf), 1 << 16, 10**400],
    ids=repr,
)  # fmt: skip
def test_nodata_values_that_no_pixel_can_have(tmp_path, make_store, given):
    path = make_store(tmp_path / "a", np.zeros((4, 5), "uint16"), attributes={"nodata": 3})
    with pytest.raises(StorageError, match=r"nodata must be a value that pixels .*uint16\), got "):
        open_image(path, nodata=given)


@pytest.mark.parametrize("stored", [True, "7", "nan", [7], {}, 1 << 16, -1, 7.5, 10**400])
def test_stored_nodata_values_that_no_pixel_can_have(tmp_path, make_store, stored):
    path = make_store(tmp_path / "a", np.zeros((4, 5), "uint16"), attributes={"nodata": stored})
    assert open_image(path).spec.nodata is None


def test_what_there_is_is_told():
    told = {"0": "64 y x 96 x", "0/1": "32 y x 48 x"}
    with pytest.raises(StorageError) as caught:
        pick("scan.tif", "file", ["0"], "0/7", told)
    assert str(caught.value) == (
        "scan.tif has no array '0/7' (did you mean '0/1'?); "
        "it has 0 (64 y x 96 x), 0/1 (32 y x 48 x)"
    )
    assert pick("scan.tif", "file", ["0"], None, told) == "0"
    assert pick("scan.tif", "file", ["0"], "0/1", told) == "0/1"
    with pytest.raises(StorageError, match=r"array= \(0 \(64 y x 96 x\), 1\)"):
        pick("scan.tif", "file", ["0", "1"], None, told)


def test_all_images_of_a_path(tmp_path, mosaic):
    group = make_group(tmp_path / "g.zarr", "m", "a")
    zarr.open_group(str(group)).attrs.update({"chunkfilt": {"finished": False}})
    found = open_images(group)
    assert {name: image.path for name, image in found.items()} == {
        "a": str(group / "a"), "m": str(group / "m"),
    }  # fmt: skip
    assert list(open_images(mosaic)) == [""]
    with pytest.raises(StorageError, match="no such file"):
        open_images(tmp_path / "nowhere")


def test_groups(tmp_path):
    one = make_group(tmp_path / "one.zarr", "only")
    assert open_image(one).path.endswith("only")
    several = make_group(tmp_path / "several.zarr", "a", "deep/er/b")
    assert list(open_images(several)) == ["a", "deep/er/b"]
    assert (read(several, "deep/er/b") == 1).all()
    assert (read(several / "deep/er/b") == 1).all()
    assert (read(several / "deep") == 1).all()
    with pytest.raises(StorageError, match=r"name one of its arrays.*\(a, deep/er/b\)"):
        open_image(several)
    with pytest.raises(StorageError, match=r"no array 'aa'.*did you mean 'a'"):
        open_image(several, "aa")
    with pytest.raises(StorageError, match=r"an array, not a group"):
        open_image(several / "a", "a")
    with pytest.raises(StorageError, match="none"):
        open_image(make_group(tmp_path / "empty.zarr"))


def test_what_is_no_image(tmp_path, make_store):
    with pytest.raises(StorageError, match="no such file or folder"):
        open_image(tmp_path / "nowhere")
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("x")
    for name in ("folder", "file"):
        with pytest.raises(StorageError, match="not a Zarr store"):
            open_image(tmp_path / name)
    with pytest.raises(StorageError, match="0 axes"):
        open_image(make_store(tmp_path / "scalar", np.zeros((), "f4"), chunks=()))
    zarr.create_array(str(tmp_path / "times"), shape=(3,), dtype="M8[s]", zarr_format=2)
    with pytest.raises(StorageError, match="numbers as pixels"):
        open_image(tmp_path / "times")


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", '{"zarr_format": 3, "node_type": "array"}', "null", "\x00",
     '{"zarr_format": 4, "node_type": "array"}', '{"zarr_format": 3, "node_type": "thing"}'],
)  # fmt: skip
def test_damaged_metadata(tmp_path, make_store, text):
    path = make_store(tmp_path / "a.zarr", np.zeros((4, 5)))
    (path / "zarr.json").write_text(text)
    with pytest.raises(StorageError, match=r"damaged|not a Zarr"):
        open_image(path)


@pytest.mark.parametrize(
    "change",
    [
        {"shape": [-4, 5]},
        {"shape": [4]},
        {"data_type": "object"},
        {"codecs": []},
        {"codecs": [{"name": "pickle"}]},
    ],
)
def test_metadata_that_lies(tmp_path, make_store, change):
    path = make_store(tmp_path / "a.zarr", np.zeros((4, 5)))
    held = json.loads((path / "zarr.json").read_text())
    (path / "zarr.json").write_text(json.dumps({**held, **change}))
    with pytest.raises((StorageError, RunError)):
        read(path)


@pytest.mark.parametrize("note", [3, "words", [1], {"finished": True}, {"finished": "no"}, None])
def test_a_foreign_attribute_of_our_name(tmp_path, make_store, note):
    path = make_store(tmp_path / "a", np.zeros((4, 5)), attributes={"chunkfilt": note})
    assert open_image(path).spec.shape == (4, 5)


def test_an_unfinished_image_warns(tmp_path, make_store):
    attributes = {"chunkfilt": {"finished": False}}
    path = make_store(tmp_path / "a.zarr", np.zeros((4, 5)), attributes=attributes)
    with pytest.warns(UnfinishedWarning, match=r"a\.zarr is unfinished"):
        assert not open_image(path).finished
    group = make_group(tmp_path / "g.zarr", "m")
    zarr.open_group(str(group)).attrs.update(attributes)
    for place, name in ((group, "m"), (group / "m", None)):
        with pytest.warns(UnfinishedWarning):
            open_image(place, name)


@pytest.mark.parametrize("name", ["two words", "größe.zarr", "🔬 image.zarr", "a#b%20.zarr", "'q'"])
def test_names_of_files(tmp_path, make_store, make_pixels, name):
    data = make_pixels((20, 20))
    (tmp_path / name).mkdir()
    path = make_store(tmp_path / name / name, data)
    result = cf.minimum(cf.open(path), size=1).save(tmp_path / name / "out", progress=False)
    np.testing.assert_array_equal(read(result.path), data)


def test_relative_paths_and_links(tmp_path, make_store, make_pixels, monkeypatch):
    data = make_pixels((20, 20))
    make_store(tmp_path / "real.zarr", data)
    (tmp_path / "link.zarr").symlink_to("real.zarr")
    monkeypatch.chdir(tmp_path)
    np.testing.assert_array_equal(read("link.zarr"), data)
    image = cf.open("real.zarr")
    cf.minimum(image, size=1).save("sub/out.zarr", progress=False)
    monkeypatch.chdir(tmp_path / "sub")
    np.testing.assert_array_equal(read("out.zarr"), data)
    np.testing.assert_array_equal(image[:], data)


@pytest.mark.parametrize("opens", [open_image, cf.open])
def test_urls_are_refused(opens):
    with pytest.raises(StorageError, match="local path"):
        opens("s3://bucket/a.zarr")


def test_names_that_nearly_fit(tmp_path, mosaic):
    with pytest.raises(StorageError, match=r"did you mean 'in\.zarr'"):
        open_image(tmp_path / "inn.zarr")


def test_a_folder_that_may_be_entered_but_not_listed(tmp_path, mosaic, monkeypatch):
    def refused(self):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "iterdir", refused)
    with pytest.raises(StorageError, match=r"no such file or folder: .*inn\.zarr$"):
        open_image(tmp_path / "inn.zarr")
    with pytest.raises(StorageError, match="no such file or folder"):
        open_image(mosaic / "zarr.json" / "a")


def snapshot(folder):
    return {p: p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}


def test_opening_leaves_a_store_as_it_is(tmp_path, mosaic):
    before = snapshot(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read(mosaic)
    assert snapshot(tmp_path) == before
    shutil.rmtree(mosaic)
    with pytest.raises(InputError):
        open_image(mosaic)
