"""Outputs of one array, as the tests of what is written make and read them."""

from pathlib import Path

import numpy as np
import zarr
from zarr.codecs import BloscCodec

from chunkfilt.grid import ImageSpec, Region
from chunkfilt.storage.zarr_output import ArrayLayout, create_output

__all__ = ["LZ4", "files_of", "layout", "make", "stored", "write_all"]

LZ4 = BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle")


def layout(shape, chunks, shards=None, dtype="uint16", compressor=None, nodata=None):
    axes = "tczyx"[-len(shape) :]
    spec = ImageSpec(shape, np.dtype(dtype), tuple(axes), tuple(range(len(shape))), (), nodata)
    return ArrayLayout(spec, chunks, shards, compressor)


def make(folder, *args, **options):
    """Create an output of one array; its files are staged beside it."""
    one = {"": layout(*args, **options)}
    path, staging = folder / "out.zarr", folder / "out.zarr.run" / "staging"
    return create_output(path, one, group=False, attributes={}, staging=staging)[""]


def write_all(output, data):
    return output.write(Region.whole(data.shape), data)


def stored(output):
    return zarr.open_array(output.image.path, mode="r")[...]


def files_of(output):
    root = Path(output.image.path) / "c"
    return sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file())
