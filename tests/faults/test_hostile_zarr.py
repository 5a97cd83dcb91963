"""Stores that say of themselves what no image is: refused when they are opened."""

import json
from pathlib import Path

import numpy as np
import pytest
import zarr

import chunkfilt as cf
from chunkfilt.errors import ConfigError, InputError, StorageError
from chunkfilt.grid import Region
from chunkfilt.storage.images import open_image
from chunkfilt.storage.zarr_store import zarr_arrays
from tests.faults.stores import (
    WHOLE,
    change,
    write_layout,
)


@pytest.fixture
def store(tmp_path):
    """Write an image in the layout named: ``path, pixels = store("v3-zstd")``."""
    return lambda layout="v3-zstd": write_layout(tmp_path, layout)


SIZES = [
    {"shape": [-1, 5]},
    {"shape": [1 << 63, 2]},
    {"shape": [1 << 62, 1 << 62]},
    {"shape": ["a", 1]},
    {"shape": [1.5, 2]},
    {"shape": [True, 5]},
    {"shape": 5},
    {"shape": None},
    {"shape": [40]},
    {"shape": [1] * 100},
]
GRIDS = [[1 << 62, 1 << 62], [1 << 64, 2], [0, 16], [-1, 16], [16], [16] * 3, [1.5, 3], ["a", 2],
         [True, 3], None, 7, {}]  # fmt: skip


@pytest.mark.parametrize("layout", ["v3-zstd", "v2-zstd"])
@pytest.mark.parametrize("changes", [*SIZES, *({"chunks": grid} for grid in GRIDS)], ids=str)
def test_absurd_sizes_are_refused_at_open(store, layout, changes):
    path, _ = store(layout)
    if "chunks" in changes and layout.startswith("v3"):
        grid = {"name": "regular", "configuration": {"chunk_shape": changes["chunks"]}}
        changes = {"chunk_grid": grid}
    change(path, **changes)
    with pytest.raises(StorageError, match="damaged Zarr store"):
        open_image(path)


BYTES = {"name": "bytes", "configuration": {"endian": "little"}}


def sharding(**more):
    index = [BYTES, {"name": "crc32c"}]
    settings = {"chunk_shape": [8, 8], "codecs": [BYTES], "index_codecs": index, **more}
    return {"name": "sharding_indexed", "configuration": settings}


@pytest.mark.parametrize(
    "codecs",
    [
        [{"name": "pickle"}],
        [BYTES, {"name": "numcodecs.pickle"}],
        [BYTES, {"name": "unheard-of"}],
        [{"name": "vlen-utf8"}],
        [BYTES, BYTES],
        [],
        "x",
        [5],
        None,
        [sharding(chunk_shape=[7, 7])],
        [sharding(chunk_shape=[0, 8])],
        [sharding(chunk_shape=[1 << 62, 1 << 62])],
        [sharding(codecs=[{"name": "pickle"}])],
        [sharding(), {"name": "gzip", "configuration": {"level": 1}}],
        [BYTES, {"name": "gzip", "configuration": {"level": 1}},
         {"name": "zstd", "configuration": {"level": 1, "checksum": False}}],
        [{"name": "transpose", "configuration": {"order": [0, 0]}}, BYTES],
    ],
    ids=str,
)  # fmt: skip
def test_codecs_of_no_image_are_refused_at_open(store, codecs):
    path, _ = store()
    change(path, codecs=codecs)
    with pytest.raises(StorageError):
        open_image(path)


@pytest.mark.parametrize(
    "changes",
    [
        {"dtype": "|O"},
        {"dtype": "|O", "filters": [{"id": "pickle"}], "compressor": None},
        {"filters": [{"id": "pickle"}]},
        {"compressor": {"id": "pickle"}},
        {"filters": [{"id": "vlen-utf8"}]},
        {"filters": [{"id": "categorize", "labels": ["a"], "dtype": "|O"}]},
        {"filters": [{"id": "zlib", "level": 1}]},
        {"filters": 5},
        {"dtype": [["a", "<u2"]]},
        {"dtype": "<U5"},
        {"dtype": "u2,u2"},
        {"dtype": "junk"},
        {"dtype": None},
        {"compressor": {"id": "unheard-of"}},
        {"compressor": "zlib"},
        {"compressor": {"id": "lzma", "format": 3}},
        {"dimension_separator": "../"},
        {"order": "X"},
        {"fill_value": "zzz"},
        {"fill_value": 10**30},
    ],
    ids=str,
)
def test_metadata_of_version_2_that_no_image_has(store, changes):
    path, _ = store("v2-zstd")
    change(path, **changes)
    with pytest.raises(StorageError):
        open_image(path)


@pytest.mark.parametrize(
    "changes",
    [
        {"data_type": "string"},
        {"data_type": "object"},
        {"data_type": "r16"},
        {"data_type": {"name": "numpy.datetime64"}},
        {"data_type": None},
        {"fill_value": "x"},
        {"fill_value": None},
        {"fill_value": 1 << 70},
        {"fill_value": -1},
        {"fill_value": [1]},
        {"dimension_names": ["y"]},
        {"dimension_names": [1, 2]},
        {"dimension_names": ["y", ["x"]]},
        {"attributes": 5},
        {"attributes": [1]},
        {"chunk_key_encoding": {"name": "default", "configuration": {"separator": "../"}}},
        {"chunk_key_encoding": {"name": "elsewhere"}},
        {"storage_transformers": [{"name": "x"}]},
        {"more": {"must_understand": True}},
    ],
    ids=str,
)
def test_metadata_of_version_3_that_no_image_has(store, changes):
    path, _ = store()
    change(path, **changes)
    with pytest.raises(StorageError):
        open_image(path)


def test_names_of_axes_that_are_odd_but_harmless(store):
    path, data = store()
    for names in (["y", "y"], [None, None], ["y\n", "x"], ["y" * 100_000, "x"]):
        change(path, dimension_names=names)
        np.testing.assert_array_equal(open_image(path).read(WHOLE), data)


@pytest.mark.parametrize(
    "raw",
    [b"", b"{", b"[]", b"null", b"\0", b"\xff\xfe", b"[" * 100_000, b'{"a":' * 100_000,
     b'{"zarr_format": ' + b"9" * 10_000 + b"}", b'"x"', b"{}"],
    ids=lambda raw: str(raw[:12]),
)  # fmt: skip
@pytest.mark.parametrize("layout", ["v3-zstd", "v2-zstd"])
def test_metadata_that_is_no_json_object(store, layout, raw):
    path, _ = store(layout)
    (path / ("zarr.json" if "v3" in layout else ".zarray")).write_bytes(raw)
    with pytest.raises(StorageError, match=r"damaged|not a Zarr"):
        open_image(path)


def test_metadata_that_is_huge_a_folder_or_cannot_be_read(store):
    path, _ = store()
    meta = path / "zarr.json"
    with meta.open("ab") as stream:
        stream.truncate(1 << 40)
    with pytest.raises(StorageError, match="more than"):
        open_image(path)
    meta.unlink()
    meta.mkdir()
    with pytest.raises(StorageError, match="not a Zarr store"):
        open_image(path)
    meta.rmdir()
    meta.symlink_to("/dev/zero")
    with pytest.raises(StorageError, match="not a Zarr store"):
        open_image(path)


@pytest.fixture
def group(tmp_path):
    path = tmp_path / "g.zarr"
    zarr.create_group(str(path))
    zarr.create_array(str(path / "a"), data=np.full((4, 5), 7, "u1"))
    zarr.create_array(str(tmp_path / "secret.zarr"), data=np.full((4, 5), 9, "u1"))
    return path


@pytest.mark.parametrize("name", ["../secret.zarr", "a/../../secret.zarr", "", ".", "/a", "a/"])
def test_names_that_lead_out_of_a_group(group, name):
    with pytest.raises(StorageError, match="has no array"):
        open_image(group, name)
    with pytest.raises(StorageError, match="has no array"):
        open_image(group, str(group.parent / "secret.zarr"))


def test_a_listing_that_lies_is_not_believed(group):
    meta = json.loads((group / "zarr.json").read_text())
    real = json.loads((group / "a" / "zarr.json").read_text())
    lies = {
        "a": {**real, "shape": [400, 500]},
        "../secret.zarr": real,
        "b": real,
    }
    meta["consolidated_metadata"] = {
        "kind": "inline", "must_understand": False, "metadata": lies
    }  # fmt: skip
    (group / "zarr.json").write_text(json.dumps(meta))
    assert zarr_arrays(Path(group)) == ["a"]
    assert open_image(group).spec.shape == (4, 5)
    assert (open_image(group).read(Region((0, 0), (4, 5))) == 7).all()


def test_groups_that_lead_round_in_a_circle(group):
    (group / "one").symlink_to(".")
    (group / "two").symlink_to(group)
    assert zarr_arrays(Path(group)) == ["a"]


def test_a_damaged_member_leaves_the_others(group):
    (group / "broken").mkdir()
    (group / "broken" / "zarr.json").write_text("{")
    assert zarr_arrays(Path(group)) == ["a", "broken"]
    assert open_image(group, "a").spec.shape == (4, 5)
    with pytest.raises(StorageError, match="no JSON"):
        open_image(group, "broken")


def test_an_image_larger_than_the_machine_is_planned_but_not_read(store):
    path, _ = store()
    change(path, shape=[1 << 24, 1 << 24])
    image = cf.mean(cf.open(path), size=3)
    assert image.plan().blocks > 1000
    for take in (lambda: image[:], image.compute, lambda: np.asarray(cf.open(path))):
        with pytest.raises(InputError, match="or save it"):
            take()
    assert image[:4, :4].shape == (4, 4)


PICTURES = {
    "png": b"\x89PNG\r\n\x1a\n",
    "jpg": b"\xff\xd8\xff",
}


@pytest.mark.parametrize("suffix", PICTURES)
def test_a_picture_is_refused_without_being_read(tmp_path, make_job, suffix):
    place = tmp_path / f"scan.{suffix}"
    with place.open("wb") as stream:
        stream.write(PICTURES[suffix])
        stream.truncate(1 << 40)
    with pytest.raises(StorageError, match=rf"is a {suffix} file: .* TIFF, convert"):
        cf.open(place)
    folder = tmp_path / "tiles"
    folder.mkdir()
    for number in range(20):
        (folder / f"{number}.{suffix}").write_bytes(PICTURES[suffix])
    with pytest.raises(StorageError, match=rf"is a folder of \.{suffix} files: .*name one of them"):
        cf.open(folder)
    job = make_job(f"version: 1\ninput: scan.{suffix}\nsteps: [mean]\noutput: out.zarr\n")
    with pytest.raises(ConfigError, match=r":2:1: .*chunkfilt reads Zarr and TIFF"):
        cf.from_yaml(job)


def test_opening_and_refusing_changes_nothing(store):
    path, _ = store()
    change(path, shape=[-1, 5])
    before = {p: p.read_bytes() for p in Path(path).rglob("*") if p.is_file()}
    with pytest.raises(StorageError):
        open_image(path)
    assert {p: p.read_bytes() for p in Path(path).rglob("*") if p.is_file()} == before
