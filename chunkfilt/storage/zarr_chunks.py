"""What the file of a chunk says of itself, looked at before any of it is decoded.

The codecs believe what a chunk's header claims: a few bytes may ask for gigabytes, and memory that
cannot be had ends the process.  So the claims are compared with the size that the chunk has
according to the array.  That a file is missing is told from all else that can be wrong with it.
"""

from __future__ import annotations

import bz2
import functools
import itertools
import lzma
import math
import os
import stat
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from chunkfilt.grid import Region
from chunkfilt.storage.stored import machine_memory
from chunkfilt.storage.zarr_metadata import COMPRESSORS
from chunkfilt.words import format_bytes

__all__ = [
    "Packing",
    "check_chunk",
    "packing_of",
    "part_of",
    "round_out",
    "touched",
]

# A decoded chunk may be larger than its pixels by checksums and the like.
_ROOM = 1 << 16
_CHECKSUM = 4
# Codecs whose output has as many bytes as their input.
_SAME_SIZE = ("bytes", "endian", "transpose", "shuffle")
_BEFORE = ("crc32", "adler32", "jenkins_lookup3")
# No byte of a stream gives more than so many; such streams do not say how large they are.
_MOST_FROM_A_BYTE = {"gzip": 1032, "bz2": 50_000, "lzma": 10_000}
# What they may grow to without being decoded beforehand for nothing but their size.
_HARMLESS = 2 << 30
_STEP = 1 << 20
# A zstd frame: its magic number, those of frames to skip, and the largest block.
_ZSTD, _ZSTD_SKIP, _ZSTD_BLOCK = 0xFD2FB528, 0x184D2A50, 1 << 17
_ABSENT = (1 << 64) - 1


@dataclass(frozen=True)
class Packing:
    """How the pixels of a chunk become bytes, as far as it tells what the bytes may claim."""

    shape: tuple[int, ...]
    itemsize: int
    compressor: str
    skip: int
    raw: bool
    exact: bool = False
    lzma_format: int = 1
    inner: Packing | None = None
    index_first: bool = False
    index_checksum: int = 0
    index_big: bool = False

    @functools.cached_property
    def nbytes(self) -> int:
        """Bytes of its pixels."""
        return math.prod(self.shape) * self.itemsize

    @functools.cached_property
    def most(self) -> int:
        """The largest size that decoded bytes may have."""
        return 2 * self.nbytes + _ROOM


def packing_of(array: Any) -> Packing:
    """Return how an array's chunks, or shards, are packed."""
    metadata, itemsize = array.metadata, array.dtype.itemsize
    shape = tuple(array.shards or array.chunks)
    if metadata.zarr_format == 3:
        return _packing([codec.to_dict() for codec in metadata.codecs], shape, itemsize)
    codecs = [dict(one.get_config()) for one in (metadata.filters or ())]
    codecs += [] if metadata.compressor is None else [dict(metadata.compressor.get_config())]
    return _packing([{"name": one["id"], "configuration": one} for one in codecs], shape, itemsize)


def _packing(codecs: Sequence[Mapping[str, Any]], shape: tuple[int, ...], itemsize: int) -> Packing:
    names = [str(one["name"]).removeprefix("numcodecs.") for one in codecs]
    settings = [one.get("configuration") or {} for one in codecs]
    at = next((i for i, name in enumerate(names) if name in COMPRESSORS), None)
    raw = all(name in _SAME_SIZE for name in names)
    if "sharding_indexed" in names:
        shard = settings[names.index("sharding_indexed")]
        index = [str(one["name"]) for one in shard["index_codecs"]]
        endian = (shard["index_codecs"][0].get("configuration") or {}).get("endian", "little")
        return Packing(
            shape,
            itemsize,
            "",
            0,
            raw=False,
            inner=_packing(shard["codecs"], tuple(shard["chunk_shape"]), itemsize),
            index_first=str(shard.get("index_location", "end")) == "start",
            index_checksum=_CHECKSUM * (len(index) - 1),
            index_big=str(endian) == "big",
        )
    if at is None:
        return Packing(shape, itemsize, "", 0, raw)
    # Checksums that stand before the compressed bytes.
    skip = sum(
        _CHECKSUM * (setting.get("location", "start") == "start")
        for name, setting in zip(names[at + 1 :], settings[at + 1 :], strict=True)
        if name in _BEFORE
    )
    return Packing(
        shape,
        itemsize,
        compressor=names[at],
        skip=skip,
        raw=False,
        exact=all(name in _SAME_SIZE for name in names[:at]),
        lzma_format=settings[at].get("format", 1),
    )


def touched(region: Region, cell: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Return the numbers of every cell of a grid that a region touches."""
    return itertools.product(
        *(
            range(a // c, -(-b // c))
            for a, b, c in zip(region.start, region.stop, cell, strict=True)
        )
    )


def part_of(region: Region, cell: Sequence[int], numbers: Sequence[int]) -> Region:
    """Return which part of a cell a region touches, counted from the cell's own corner."""
    corners = [n * c for n, c in zip(numbers, cell, strict=True)]
    start = (max(a - o, 0) for a, o in zip(region.start, corners, strict=True))
    stop = (min(b - o, c) for b, o, c in zip(region.stop, corners, cell, strict=True))
    return Region(tuple(start), tuple(stop))


def round_out(
    region: Region, grid: Sequence[int], shape: Sequence[int]
) -> tuple[Region, tuple[slice, ...]]:
    """Return the region of whole cells of `grid` that holds a region, and its place in there."""
    start = tuple(a // g * g for a, g in zip(region.start, grid, strict=True))
    stop = tuple(min(-(-b // g) * g, n) for b, g, n in zip(region.stop, grid, shape, strict=True))
    return Region(start, stop), region.shift(tuple(-a for a in start)).slices


def check_chunk(
    path: str, packing: Packing, region: Region, numbers: Sequence[int]
) -> tuple[int, ...] | None:
    """Look at the file of a chunk or shard before a region, which touches it, is read.

    Returns
    -------
    tuple of int or None
        The numbers of the first chunk within a shard that is missing; empty if nothing is.
        ``None`` if there is no such file.

    Raises
    ------
    OSError, ValueError
        If it cannot be read, or what it claims to hold cannot be what the array has there.
    """
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        _refuse_dangling(path)
        return None
    try:
        info = os.fstat(file)
        if not stat.S_ISREG(info.st_mode):
            raise ValueError("it is no file")
        return _check(file, 0, info.st_size, packing, region, numbers)
    finally:
        os.close(file)


def _refuse_dangling(path: str) -> None:
    """Refuse a link to what is not there: its pixels are elsewhere, not missing."""
    while not os.path.exists(path):
        if os.path.islink(path):
            raise ValueError(f"{os.path.basename(path)} is a link to a file that is not there")
        path = os.path.dirname(path)


def _check(
    file: int,
    start: int,
    size: int,
    packing: Packing,
    region: Region,
    numbers: Sequence[int],
) -> tuple[int, ...]:
    nbytes = packing.nbytes
    if packing.inner is not None:
        return _check_shard(file, start, size, packing, part_of(region, packing.shape, numbers))
    if packing.raw and size != nbytes:
        raise ValueError(f"it has {size} bytes instead of {nbytes}")
    if size > packing.most:
        raise ValueError(f"it has {size} bytes, its pixels only {nbytes}")
    if not packing.raw and nbytes > machine_memory():
        raise ValueError(
            f"it has {format_bytes(nbytes)} of pixels: more than this machine's memory"
        )
    if packing.compressor:
        claimed, sure = _claimed(file, start + packing.skip, size - packing.skip, packing)
        # Of a chunk that is read in part nobody else would notice that it has another size.
        if claimed > packing.most or (packing.exact and sure and claimed != nbytes):
            raise ValueError(f"it claims {claimed} bytes of pixels instead of {nbytes}")
    return ()


def _check_shard(
    file: int, start: int, size: int, packing: Packing, part: Region
) -> tuple[int, ...]:
    inner = packing.inner
    assert inner is not None
    grid = tuple(n // c for n, c in zip(packing.shape, inner.shape, strict=True))
    length = 16 * math.prod(grid)
    if length + packing.index_checksum > size:
        raise ValueError(f"it has {size} bytes, fewer than its index")
    at = start if packing.index_first else start + size - length - packing.index_checksum
    kind = ">u8" if packing.index_big else "<u8"
    index = np.frombuffer(os.pread(file, length, at), kind).astype(np.uint64).data
    missing: tuple[int, ...] = ()
    for numbers in touched(part, inner.shape):
        row = 0
        for n, held in zip(numbers, grid, strict=True):
            row = row * held + n
        offset, held = index[2 * row], index[2 * row + 1]
        if offset == held == _ABSENT:
            missing = missing or numbers
            continue
        if offset + held > size:
            raise ValueError(f"its chunk {_told(numbers)} lies beyond its {size} bytes")
        try:
            missing = _check(file, start + offset, held, inner, part, numbers) or missing
        except ValueError as error:
            raise ValueError(f"in its chunk {_told(numbers)}: {error}") from None
    return missing


def _told(numbers: Sequence[int]) -> str:
    return f"({', '.join(map(str, numbers))})"


def _claimed(file: int, start: int, size: int, packing: Packing) -> tuple[int, bool]:
    """Return how many bytes a compressed chunk decodes to at most, and whether to just as many."""
    name = packing.compressor
    if name == "blosc":
        return int.from_bytes(os.pread(file, 16, start)[4:8], "little"), True
    if name == "lz4":
        return int.from_bytes(os.pread(file, 4, start), "little"), True
    if name == "zstd":
        return _claimed_by_zstd(file, start, size, packing.most)
    if name == "zlib" or size * _MOST_FROM_A_BYTE.get(name, 0) > max(_HARMLESS, packing.most):
        return _decoded_size(os.pread(file, size, start), packing), True
    if name == "gzip":
        # The size as its last four bytes have it.
        last = int.from_bytes(os.pread(file, 4, start + max(size - 4, 0)), "little")
        return (packing.nbytes if last == packing.nbytes % (1 << 32) else last), True
    return 0, False


def _claimed_by_zstd(file: int, start: int, size: int, most: int) -> tuple[int, bool]:
    """Return what `_claimed` does of a zstd stream; more than `most` ends the count."""
    total, sure, at, end = 0, True, start, start + size
    while at < end and total <= most:
        head = os.pread(file, 18, at)
        magic = int.from_bytes(head[:4], "little")
        if magic & 0xFFFFFFF0 == _ZSTD_SKIP:
            at += 8 + int.from_bytes(head[4:8], "little")
            continue
        if magic != _ZSTD or len(head) < 6:
            break
        flags = head[4]
        single = flags >> 5 & 1
        field = 5 + (1 - single) + (0, 1, 2, 4)[flags & 3]
        width = (single, 2, 4, 8)[flags >> 6]
        claimed = int.from_bytes(head[field : field + width], "little") + 256 * (width == 2)
        at, blocks = _after_blocks(file, at + field + width, end, most)
        at += _CHECKSUM * (flags >> 2 & 1)
        total += claimed if width else blocks
        sure = sure and width > 0
    return total, sure


def _after_blocks(file: int, at: int, end: int, most: int) -> tuple[int, int]:
    """Return where the blocks of a zstd frame end, and the most that they may hold."""
    held = 0
    while at < end and held <= most + _ZSTD_BLOCK:
        head = int.from_bytes(os.pread(file, 3, at), "little")
        kind, size = head >> 1 & 3, head >> 3
        held += size if kind < 2 else _ZSTD_BLOCK
        at += 3 + (1 if kind == 1 else size)
        if head & 1:
            break
    return at, held


def _decoded_size(raw: bytes, packing: Packing) -> int:
    """Decode a stream piece by piece for its size alone; stop when it is too large."""
    total = 0
    while raw and total <= packing.most:
        stream: Any = {
            "zlib": zlib.decompressobj,
            "gzip": lambda: zlib.decompressobj(31),
            "bz2": bz2.BZ2Decompressor,
            "lzma": lambda: lzma.LZMADecompressor(packing.lzma_format, memlimit=_HARMLESS),
        }[packing.compressor]()
        rest = raw
        while not stream.eof and total <= packing.most:
            try:
                made = stream.decompress(rest, _STEP)
            except (zlib.error, lzma.LZMAError, OSError) as error:
                if total:
                    return total
                raise ValueError(str(error)) from None
            total += len(made)
            rest = stream.unconsumed_tail if hasattr(stream, "unconsumed_tail") else b""
            if not (made or rest or stream.eof):
                raise ValueError("its compressed bytes end too early")
        raw = stream.unused_data
        if packing.compressor == "zlib":
            break
    return total
