"""Sliding sets that know which pixels count: a rank among the valid pixels under a footprint.

As in `_slide`, a set of bits follows the footprint along a row. Only valid pixels have codes of
their own; the others share one that lies above all, where no search comes. The number of valid
pixels is kept as the footprint moves, and a table says which rank to seek among so many.
"""

from __future__ import annotations

import numpy as np

from chunkfilt.kernels._common import jit
from chunkfilt.kernels._keys import map_keys
from chunkfilt.kernels._slide import _codes, _seek

__all__ = ["slide_valid"]


@jit
def _extent(wanted):
    """Return the box that holds what is wanted of a tile: z, y, x from and to."""
    box = np.array([*wanted.shape, -1, -1, -1])
    for z in range(wanted.shape[0]):
        for y in range(wanted.shape[1]):
            for x in range(wanted.shape[2]):
                if wanted[z, y, x]:
                    box[0], box[3] = min(box[0], z), max(box[3], z)
                    box[1], box[4] = min(box[1], y), max(box[4], y)
                    box[2], box[5] = min(box[2], x), max(box[5], x)
    return box


@jit
def _gather(src, valid, shape, keys, place, rule):
    """Read the valid pixels of a tile as unsigned keys; return how many there are."""
    kind, consts = rule
    row = np.empty(shape[2], src.dtype)
    at = found = 0
    for z in range(shape[0]):
        for y in range(shape[1]):
            map_keys(row, 0, src[z, y], 0, shape[2], kind, consts)
            for x in range(shape[2]):
                # Written anyway and kept if it counts: no branch to guess.
                keys[found] = row[x] ^ consts[0]
                place[found] = at
                found += valid[z, y, x] != 0
                at += 1
    return found


@jit
def _slide_row(codes, words, enter, leave, start, ranks, above, n, found, at):
    """Slide a footprint along one row of codes; write the codes found."""
    one, six, low = np.uint64(1), np.uint64(6), np.uint64(63)
    words[:] = 0
    below = count = 0
    for r in range(enter.shape[0]):
        for i in range(start + leave[r], start + enter[r] + 1):
            c = np.uint64(codes[i])
            words[c >> six] |= one << (c & low)
            below += (c >> six) < at
            count += codes[i] < above
    for x in range(n):
        if x > 0:
            first = np.uint64(at)
            for r in range(np.uint64(enter.shape[0])):
                o, w = (
                    codes[np.uint64(start + x - 1 + leave[r])],
                    codes[np.uint64(start + x + enter[r])],
                )
                count += np.int64(w < above) - np.int64(o < above)
                old, new = np.uint64(o), np.uint64(w)
                words[old >> six] ^= one << (old & low)
                words[new >> six] ^= one << (new & low)
                below += np.int64((new >> six) < first) - np.int64((old >> six) < first)
        if count > 0:
            at, below, found[x] = _seek(words, at, below, ranks[count])
    return at


@jit
def slide_valid(src, valid, wanted, dst, runs, window, ranks, tile, rule):
    """Write a rank among the valid pixels wherever it is wanted, tile by tile."""
    batch, nz, ny, nx = dst.shape
    most = 1
    for a in range(3):
        most *= min(tile[a], dst.shape[a + 1]) + window[a] - 1
    keys, codes = np.empty(most, src.dtype), np.empty((2, most), np.int32)
    where, place = np.empty((2, most), np.int32), np.empty(most, np.int32)
    bins, words = np.empty(2048, np.int64), np.empty(most // 64 + 2, np.uint64)
    for b in range(batch):
        for z in range(0, nz, tile[0]):
            for y in range(0, ny, tile[1]):
                for x in range(0, nx, tile[2]):
                    want = wanted[b, z : z + tile[0], y : y + tile[1], x : x + tile[2]]
                    box = _extent(want)
                    if box[3] < 0:
                        continue
                    z0, y0, x0 = z + box[0], y + box[1], x + box[2]
                    z1, y1, x1 = z + box[3] + 1, y + box[4] + 1, x + box[5] + 1
                    size = (
                        z1 - z0 + window[0] - 1,
                        y1 - y0 + window[1] - 1,
                        x1 - x0 + window[2] - 1,
                    )
                    n = size[0] * size[1] * size[2]
                    inner = valid[b, z0:, y0:, x0:]
                    found = _gather(src[b, z0:, y0:, x0:], inner, size, keys, place, rule)
                    order = _codes(
                        keys[:found], codes[0, :found], where[0, :found], where[1, :found], bins
                    )
                    codes[1, :n] = (found // 64 + 1) * 64
                    for i in range(found):
                        codes[1, place[i]] = codes[0, i]
                    _slide_tile(
                        dst[b, z0:z1, y0:y1, x0:x1], wanted[b, z0:z1, y0:y1, x0:x1],
                        keys, codes[1, :n], order, words[: found // 64 + 2],
                        runs, size, ranks, found, rule,
                    )  # fmt: skip


@jit
def _slide_tile(out, wanted, keys, codes, order, words, runs, size, ranks, above, rule):
    """Filter one tile: of each row the part between the first and the last pixel wanted."""
    tz, ty, tx = out.shape
    kind, consts = rule
    leave = (runs[:, 0] * size[1] + runs[:, 1]) * size[2] + runs[:, 2]
    enter = leave + runs[:, 3] - runs[:, 2]
    row, found = np.empty(tx, keys.dtype), np.zeros(tx, np.int32)
    at = 0
    for z in range(tz):
        for y in range(ty):
            first = 0
            while first < tx and not wanted[z, y, first]:
                first += 1
            if first == tx:
                continue
            last = tx - 1
            while not wanted[z, y, last]:
                last -= 1
            start, n = (z * size[1] + y) * size[2] + first, last - first + 1
            at = _slide_row(codes, words, enter, leave, start, ranks, above, n, found, at)
            for x in range(n):
                row[x] = keys[order[found[x]]] ^ consts[0]
            map_keys(row, 0, row, 0, n, kind, consts)
            for x in range(n):
                if wanted[z, y, first + x]:
                    out[z, y, first + x] = row[x]
