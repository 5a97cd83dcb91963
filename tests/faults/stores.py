"""Stores in every layout that is read, and what harms them."""

import json

import numcodecs
import numpy as np
import pytest
import zarr
from zarr.codecs import BloscCodec, GzipCodec, ZstdCodec

import chunkfilt as cf
from chunkfilt.errors import RunError
from chunkfilt.grid import Region
from chunkfilt.storage.images import open_image

SHAPE, CHUNKS = (40, 50), (16, 16)
WHOLE = Region((0, 0), SHAPE)
LAYOUTS = {
    "v3-zstd": {"compressors": ZstdCodec()},
    "v3-blosc": {"compressors": BloscCodec(cname="lz4")},
    "v3-gzip": {"compressors": GzipCodec()},
    "v3-none": {"compressors": None},
    "v3-shards": {"shards": (32, 32)},
    "v3-shards-none": {"shards": (32, 32), "compressors": None},
    "v3-shards-gzip": {"shards": (32, 32), "compressors": GzipCodec()},
    "v2-zstd": {"zarr_format": 2, "compressors": numcodecs.Zstd()},
    "v2-blosc": {"zarr_format": 2, "compressors": numcodecs.Blosc("lz4")},
    "v2-gzip": {"zarr_format": 2, "compressors": numcodecs.GZip()},
    "v2-zlib": {"zarr_format": 2, "compressors": numcodecs.Zlib()},
    "v2-lz4": {"zarr_format": 2, "compressors": numcodecs.LZ4()},
    "v2-bz2": {"zarr_format": 2, "compressors": numcodecs.BZ2()},
    "v2-lzma": {"zarr_format": 2, "compressors": numcodecs.LZMA()},
    "v2-none": {"zarr_format": 2, "compressors": None},
}
MARKS = {"zarr.json", ".zarray", ".zattrs", ".zgroup"}


def write_layout(folder, layout):
    """Store an image of 40 x 50 pixels in the layout named; return its path and its pixels."""
    data = np.random.default_rng(0).integers(0, 1 << 16, SHAPE, dtype="uint16")
    path = folder / f"{layout}.zarr"
    options = LAYOUTS[layout]
    names = None if options.get("zarr_format") == 2 else ["y", "x"]
    array = zarr.create_array(
        str(path), shape=SHAPE, chunks=CHUNKS, dtype=data.dtype, dimension_names=names, **options
    )
    array[...] = data
    return path, data


def chunk_files(path):
    return sorted(p for p in path.rglob("*") if p.is_file() and p.name not in MARKS)


def key_of(path, file):
    return file.relative_to(path).as_posix()


def change(path, **changes):
    """Change what a store says of itself."""
    file = path / ("zarr.json" if (path / "zarr.json").exists() else ".zarray")
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def refuse_to_read(path, key, words=""):
    """Reading whole, in part and through a filter fails, naming array and chunk."""
    image = open_image(path)
    for region in (WHOLE, Region((3, 3), (9, 12))):
        with pytest.raises(RunError) as caught:
            image.read(region)
        assert f"chunk {key} of {path}" in str(caught.value)
        assert words in str(caught.value)
    with pytest.raises(RunError, match="chunk"):
        cf.mean(cf.open(path), size=3)[:]
