"""Sliding sets: a rank under a footprint from a set of bits that follows it along a row.

The pixels of a tile are sorted once, and each is known by its place in that order, its code. The
codes under the footprint are the bits of a set; sliding on, some enter and some leave, and the
search for the rank goes on from the word where it last ended.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chunkfilt.kernels._common import jit
from chunkfilt.kernels._keys import map_keys

__all__ = ["run_slide", "runs", "slide_memory", "tile_of"]

# Large enough to pay for the sort of the halo, and so small that the sets stay in the cache.
_TILE_1D, _TILE_2D, _TILE_3D = 4096, (1, 256, 256), (16, 64, 64)
_DIGIT = 11  # bits that one pass of the sort looks at
_CODES = 12  # bytes of a pixel's code and its two places while the tile is sorted


def tile_of(window: tuple[int, ...]) -> tuple[int, int, int]:
    """Return the pixels of a tile along z, y and x."""
    if window[0] > 1:
        return _TILE_3D
    return _TILE_2D if window[1] > 1 else (1, 1, max(_TILE_1D, 8 * window[2]))


def slide_memory(core: tuple[int, ...], window: tuple[int, ...], itemsize: int) -> int:
    """Return the bytes that `run_slide` works in, for a core and a window `(z, y, x)`."""
    tile = zip(tile_of(window), core, window, strict=True)
    return math.prod(min(t, n) + w - 1 for t, n, w in tile) * (itemsize + _CODES + 1)


def runs(mask: NDArray[Any]) -> NDArray[Any]:
    """Return the runs of a footprint along its rows, (runs, 4): z, y, first x, last x."""
    cells = np.pad(mask.astype(np.bool_), ((0, 0), (0, 0), (1, 1)))
    first = np.argwhere(cells[..., 1:-1] & ~cells[..., :-2])
    last = np.argwhere(cells[..., 1:-1] & ~cells[..., 2:])
    return np.column_stack([first, last[:, 2]]).astype(np.int64)


@jit
def _digits(keys, where, out, shift, bins):
    """Sort `where` stably by one digit of its keys into `out`; say whether it did anything."""
    bins[:] = 0
    n = where.shape[0]
    top = bins.shape[0] - 1
    for i in range(n):
        bins[(keys[i] >> shift) & top] += 1
    total = 0
    for d in range(bins.shape[0]):
        if bins[d] == n:
            return False
        count = bins[d]
        bins[d] = total
        total += count
    for i in range(n):
        p = where[i]
        d = (keys[p] >> shift) & top
        out[bins[d]] = p
        bins[d] += 1
    return True


@jit
def _radix(keys, where, other, bins, shift, end):
    """Sort the places of keys stably by the bits from `shift` on; return where they are."""
    for i in range(keys.shape[0]):
        where[i] = i
    while shift < end:
        # Digits of one size: 8 bits for bytes, 11 else.
        digit = min(_DIGIT if end > 8 else 8, end - shift)
        if _digits(keys, where, other, shift, bins[: 1 << digit]):
            where, other = other, where
        shift += digit
    return where


@jit
def _settle(keys, where):
    """Insert what stands too high among its neighbours; say whether that was little work."""
    moves = 0
    for i in range(1, keys.shape[0]):
        p = where[i]
        j = i
        key = np.uint64(keys[p])
        while j > 0 and np.uint64(keys[where[j - 1]]) > key:
            where[j] = where[j - 1]
            j -= 1
        where[j] = p
        moves += i - j
        if moves > 2 * keys.shape[0]:
            return False
    return True


@jit
def _codes(keys, codes, where, other, bins):
    """Give each key of a tile its place in sorted order, ties in raster order; return the order."""
    n = keys.shape[0]
    varying = keys[0] ^ keys[0]
    for i in range(n):
        varying |= keys[i] ^ keys[0]
    end = 0
    while end < 8 * keys.itemsize and varying >> end != 0:
        end += 1
    start, order = max(end - 3 * _DIGIT, 0), where
    while True:
        order = _radix(keys, where, other, bins, start, end)
        # Long keys seldom agree in their first 33 bits: what is left is a few neighbours.
        if start == 0 or _settle(keys, order):
            break
        start = 0
    for i in range(n):
        codes[order[i]] = i
    return order


@jit
def _ones(word):
    """Count the bits set; the compiler knows this idiom and uses the machine's instruction."""
    word = word - ((word >> np.uint64(1)) & np.uint64(0x5555555555555555))
    word = (word & np.uint64(0x3333333333333333)) + (
        (word >> np.uint64(2)) & np.uint64(0x3333333333333333)
    )
    word = (word + (word >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((word * np.uint64(0x0101010101010101)) >> np.uint64(56))


@jit
def _seek(words, at, below, rank):
    """Move to the word that holds the rank-th bit; return it, the bits below it and the bit."""
    while below > rank:
        at -= 1
        below -= _ones(words[at])
    while True:
        inside = _ones(words[at])
        if below + inside > rank:
            break
        below += inside
        at += 1
    # Halving finds the bit without a branch the processor would have to guess.
    left, word, bit = rank - below, words[at], np.uint64(at) << np.uint64(6)
    for half in (32, 16, 8, 4, 2, 1):
        low = _ones(word & np.uint64((1 << half) - 1))
        step = np.uint64(half if left >= low else 0)
        left -= low if left >= low else 0
        word >>= step
        bit += step
    return at, below, np.int32(bit)


@jit
def _slide_row(codes, words, enter, leave, start, rank, n, found, at):
    """Slide a footprint along one row of codes; write the codes found."""
    one, six, low = np.uint64(1), np.uint64(6), np.uint64(63)
    words[:] = 0
    below = 0
    for r in range(enter.shape[0]):
        for i in range(start + leave[r], start + enter[r] + 1):
            c = np.uint64(codes[i])
            words[c >> six] |= one << (c & low)
            below += (c >> six) < at
    for x in range(n):
        if x > 0:
            first = np.uint64(at)
            for r in range(np.uint64(enter.shape[0])):
                old = np.uint64(codes[np.uint64(start + x - 1 + leave[r])])
                new = np.uint64(codes[np.uint64(start + x + enter[r])])
                words[old >> six] ^= one << (old & low)
                words[new >> six] ^= one << (new & low)
                below += np.int64((new >> six) < first) - np.int64((old >> six) < first)
        at, below, found[x] = _seek(words, at, below, rank)
    return at


@jit
def _nan_row(codes, enter, leave, start, nan_code, n, found):
    """Write -1 where the footprint holds a NaN."""
    nans = 0
    for r in range(enter.shape[0]):
        for i in range(start + leave[r], start + enter[r]):
            nans += codes[i] >= nan_code
    for x in range(n):
        for r in range(enter.shape[0]):
            nans += codes[start + x + enter[r]] >= nan_code
        if nans > 0:
            found[x] = -1
        for r in range(enter.shape[0]):
            nans -= codes[start + x + leave[r]] >= nan_code


@jit
def _gather(src, keys, shape, kind, consts):
    """Read a tile as unsigned keys, NaN above all; return the number of NaNs."""
    row = np.empty(shape[2], dtype=src.dtype)
    place = nans = 0
    sign, most = consts[0], consts[1]
    for z in range(shape[0]):
        for y in range(shape[1]):
            map_keys(row, 0, src[z, y], 0, shape[2], kind, consts)
            for x in range(shape[2]):
                key = row[x]
                if (key > consts[2]) | (key < consts[3]):
                    key = most
                    nans += 1
                keys[place] = key ^ sign
                place += 1
    return nans


@jit
def run_slide(src, dst, runs, window, rank, tile, kind, consts):
    """Filter a batch tile by tile with sets of rank codes that slide along the rows."""
    batch, nz, ny, nx = dst.shape
    most = 1
    for a in range(3):
        most *= min(tile[a], dst.shape[a + 1]) + window[a] - 1
    keys = np.empty(most, src.dtype)
    codes, where = np.empty(most, np.int32), np.empty((2, most), np.int32)
    bins, words = np.empty(2048, np.int64), np.empty(most // 64 + 1, np.uint64)
    found = np.empty(tile[2], np.int32)
    for b in range(batch):
        for z in range(0, nz, tile[0]):
            for y in range(0, ny, tile[1]):
                for x in range(0, nx, tile[2]):
                    out = dst[b, z : z + tile[0], y : y + tile[1], x : x + tile[2]]
                    tz, ty, tx = out.shape
                    size = (tz + window[0] - 1, ty + window[1] - 1, tx + window[2] - 1)
                    n = size[0] * size[1] * size[2]
                    nans = _gather(src[b, z:, y:, x:], keys, size, kind, consts)
                    order = _codes(keys[:n], codes[:n], where[0, :n], where[1, :n], bins)
                    _slide_tile(
                        out,
                        keys,
                        codes[:n],
                        order,
                        words[: n // 64 + 1],
                        found,
                        runs,
                        size,
                        rank,
                        n - nans,
                        kind,
                        consts,
                    )


@jit
def _slide_tile(out, keys, codes, order, words, found, runs, size, rank, nan_code, kind, consts):
    """Filter one tile, row by row."""
    tz, ty, tx = out.shape
    spans = runs[:, 3] - runs[:, 2] + 1
    leave = (runs[:, 0] * size[1] + runs[:, 1]) * size[2] + runs[:, 2]
    enter = leave + spans - 1
    row = np.empty(tx, keys.dtype)
    at = 0
    for z in range(tz):
        for y in range(ty):
            start = (z * size[1] + y) * size[2]
            at = _slide_row(codes, words, enter, leave, start, rank, tx, found, at)
            if nan_code < codes.shape[0]:
                _nan_row(codes, enter, leave, start, nan_code, tx, found)
            for x in range(tx):
                row[x] = keys[order[max(found[x], 0)]] ^ consts[0]
            map_keys(out[z, y], 0, row, 0, tx, kind, consts)
            for x in range(tx):
                if found[x] < 0:
                    out[z, y, x] = consts[4]
