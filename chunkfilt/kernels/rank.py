"""Exact rank filters: comparator networks for small footprints, sliding bit sets for large ones.

Every dtype is first mapped onto a signed integer of its own width whose order is the order of
the values (floats by the sign-flip trick, so that -0.0 stands before 0.0). Both algorithms then
select among integers, which makes their results identical bit for bit.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from chunkfilt.kernels._common import as4d, jit

__all__ = ["median_rank", "rank_filter"]

PLAIN, UNSIGNED, FLOAT = 0, 1, 2  # how the bits of a dtype become keys
_NETWORK_MAX = 2000  # above this many pixels no network is tried: building it takes a second
_LANES = 64  # strips are computed in whole multiples of this, so that no scalar remainder runs
_STRIP_BYTES = 2048
_TILE_2D, _TILE_3D = (1, 256, 256), (16, 64, 64)  # large enough to pay for the sort of the halo

Ref = tuple[int, int]  # (value id, shift to the right in pixels)


def median_rank(n: int) -> int:
    """Return the 0-based rank of the median of ``n`` values, ``n // 2`` as scipy has it.

    >>> median_rank(9)
    4
    """
    return n // 2


def rank_filter(block: NDArray[Any], footprint: NDArray[Any], rank: int) -> NDArray[Any]:
    """Select the ``rank``-th smallest pixel under a footprint.

    ``out[p] = sorted(block[p + k] for k where footprint[k])[rank]``

    Parameters
    ----------
    block : ndarray, shape (batch, *spatial)
        One to three spatial axes; bool, integers, float16, float32 or float64.
    footprint : ndarray of bool
        One axis per spatial axis; any shape, holes included.
    rank : int
        0-based, below the number of pixels in the footprint.

    Returns
    -------
    ndarray, shape (batch, *(spatial - footprint.shape + 1))
        The dtype of the block. NaN where the footprint holds a NaN.

    Raises
    ------
    ValueError
        If the footprint is empty or of other dimension, or the rank is outside it.
    TypeError
        If the dtype is not one of the above.

    Examples
    --------
    >>> rank_filter(np.array([[3, 1, 2, 9]]), np.ones(3, bool), 1)
    array([[2, 2]])
    """
    return _rank_filter(block, footprint, rank, None)


def _rank_filter(
    block: NDArray[Any], footprint: NDArray[Any], rank: int, method: str | None
) -> NDArray[Any]:
    """Run `rank_filter` by ``"network"``, ``"slide"``, or the cheaper of the two (None)."""
    mask = np.ascontiguousarray(footprint, dtype=np.bool_)
    count = int(np.count_nonzero(mask))
    if mask.ndim != block.ndim - 1:
        raise ValueError(f"footprint has {mask.ndim} axes, the block {block.ndim - 1} spatial ones")
    if count == 0:
        raise ValueError("footprint holds no pixel")
    if not 0 <= rank < count:
        raise ValueError(f"rank {rank} is outside 0 ... {count - 1}")
    kind, consts = key_rule(block.dtype)
    core = tuple(max(n - w + 1, 0) for n, w in zip(block.shape[1:], mask.shape, strict=True))
    out = np.empty((block.shape[0], *core), dtype=block.dtype.newbyteorder("="))
    if out.size == 0:
        return out
    src = as4d(np.ascontiguousarray(block, block.dtype.newbyteorder("=")).view(consts.dtype))
    dst = out.view(consts.dtype).reshape((block.shape[0], *(1,) * (3 - mask.ndim), *core))
    mask3 = mask.reshape((1,) * (3 - mask.ndim) + mask.shape)
    if method is None:
        method = _choose(mask3, rank, consts.dtype.itemsize)
    if method == "network":
        net = _network_for(mask3.shape, mask3.tobytes(), rank)
        strip, stride, ops = _place(net, consts.dtype.itemsize)
        _run_network(
            src,
            dst,
            net.rows,
            net.pixels,
            ops,
            net.registers,
            net.result * stride + net.shift,
            stride,
            net.reach,
            strip,
            kind,
            consts,
        )
    else:
        tile = _TILE_2D if mask3.shape[0] == 1 else _TILE_3D
        _run_slide(src, dst, _runs(mask3), mask3.shape, rank, tile, kind, consts)
    return out


def key_rule(dtype: np.dtype[Any]) -> tuple[int, NDArray[Any]]:
    """Return how to key a dtype, and its constants (sign, maximum, inf key, -inf key, NaN)."""
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise TypeError(f"rank filters take bool, integers and floats to 64 bits, not {dtype}")
    signed = np.dtype(f"i{dtype.itemsize}")
    info = np.iinfo(signed)
    consts = np.array([info.min, info.max, info.max, info.min, 0], dtype=signed)
    if dtype.kind == "f":
        bits = np.array([np.inf, -np.inf, np.nan], dtype=dtype).view(signed)
        consts[2:] = bits[0], bits[1] ^ info.max, bits[2]
        return FLOAT, consts
    return (UNSIGNED if dtype.kind in "bu" else PLAIN), consts


def _choose(mask: NDArray[Any], rank: int, itemsize: int) -> str:
    """Choose the cheaper algorithm from footprint, rank and dtype, never from the block."""
    if np.count_nonzero(mask) > _NETWORK_MAX:
        return "slide"
    net = _network_for(mask.shape, mask.tobytes(), rank)
    # Measured, in nanoseconds per pixel: what a comparator takes for each byte of the dtype; the
    # search for the rank, the runs that enter and leave, and the sort of the tile per byte.
    network = len(net.ops) * itemsize * 0.016
    slide = 42 + 0.6 * len(_runs(mask)) + 1.2 * itemsize
    return "network" if network <= slide else "slide"


def _place(net: _Network, itemsize: int) -> tuple[int, int, NDArray[Any]]:
    """Return strip length, register stride and the program with registers as flat offsets."""
    total = max(_STRIP_BYTES // itemsize, 2 * net.reach, 2 * _LANES)
    total = -(-total // _LANES) * _LANES
    stride = total + net.reach + _LANES
    stride = -(-stride // _LANES) * _LANES
    a, shift_a, b, shift_b, low, high, reach = net.ops.T
    halves = [np.where(half < 0, -1, half * stride) for half in (low, high)]
    columns = [a * stride + shift_a, b * stride + shift_b, *halves, reach]
    return total - net.reach, stride, np.ascontiguousarray(np.stack(columns, axis=1))


# ----------------------------------------------------------------------------- the networks


class _Network(NamedTuple):
    """A comparator program over rows of registers; the first registers are the image rows."""

    rows: NDArray[Any]  # (rows, 2): z, y of each input row
    pixels: NDArray[Any]  # (pixels, 2): row, x of each footprint pixel
    ops: NDArray[Any]  # (ops, 7): a, shift a, b, shift b, low register or -1, high or -1, reach
    registers: int
    result: int
    shift: int
    reach: int


class _Builder:
    """Collects comparators; those that are shifted copies of each other become one."""

    def __init__(self, inputs: int) -> None:
        self.inputs = inputs
        self.ops: list[tuple[Ref, Ref]] = []
        self._seen: dict[tuple[Ref, Ref], int] = {}

    def compare(self, a: Ref, b: Ref) -> tuple[Ref, Ref]:
        """Return the lower and the higher of two references."""
        shift = min(a[1], b[1])
        one, two = sorted(((a[0], a[1] - shift), (b[0], b[1] - shift)))
        op = self._seen.setdefault((one, two), len(self.ops))
        if op == len(self.ops):
            self.ops.append((one, two))
        low = self.inputs + 2 * op
        return (low, shift), (low + 1, shift)

    def merge(self, a: list[Ref], b: list[Ref]) -> list[Ref]:
        """Merge two sorted lists by Batcher's odd-even merge."""
        if not a or not b:
            return a or b
        if len(a) == len(b) == 1:
            return list(self.compare(a[0], b[0]))
        even, odd = self.merge(a[::2], b[::2]), self.merge(a[1::2], b[1::2])
        merged = [even[0]]
        for low, high in zip(odd, even[1:], strict=False):
            merged.extend(self.compare(low, high))
        return merged + odd[len(even) - 1 :] + even[len(odd) + 1 :]

    def sort(self, items: dict[int, Ref], first: int, size: int) -> list[Ref]:
        """Sort items by halves of the aligned interval, so that equal parts are shared."""
        if size == 1:
            return [items[first]] if first in items else []
        half = size // 2
        return self.merge(self.sort(items, first, half), self.sort(items, first + half, half))

    def select(self, a: list[Ref], b: list[Ref], rank: int) -> Ref:
        """Return the rank-th of two sorted lists: the least of max(a[i - 1], b[rank - i])."""
        best: Ref | None = None
        for i in range(max(0, rank + 1 - len(b)), min(len(a), rank + 1) + 1):
            j = rank + 1 - i
            term = b[j - 1] if i == 0 else a[i - 1]
            if i and j:
                term = self.compare(a[i - 1], b[j - 1])[1]
            best = term if best is None else self.compare(best, term)[0]
        assert best is not None
        return best


def _trim(lists: list[list[Ref]], rank: int) -> int:
    """Drop, in place, what cannot be the rank-th; return the rank among what is left."""
    count = sum(map(len, lists))
    for i, items in enumerate(lists):
        below = max(0, len(items) - (count - rank))  # each has count - rank others above it
        above = max(0, len(items) - 1 - rank)
        lists[i] = items[below : len(items) - above]
        count -= below + above
        rank -= below
    return rank


@lru_cache(maxsize=64)
def _network_for(shape: tuple[int, int, int], raw: bytes, rank: int) -> _Network:
    """Build the program that selects one rank under a footprint."""
    points = np.argwhere(np.frombuffer(raw, dtype=np.bool_).reshape(shape))
    rows = np.unique(points[:, :2], axis=0)
    index = {(z, y): i for i, (z, y) in enumerate(rows.tolist())}
    pixels = [(index[z, y], x) for z, y, x in points.tolist()]
    net = _Builder(len(rows))
    columns: dict[int, dict[int, Ref]] = {}
    for row, x in pixels:
        columns.setdefault(x, {})[row] = (row, x)
    size = 1 << (len(rows) - 1).bit_length()
    lists = [net.sort(columns[x], 0, size) for x in sorted(columns)]
    rank = _trim(lists, rank)
    while len(lists) > 2:
        pairs = [lists[i : i + 2] for i in range(0, len(lists), 2)]
        lists = [net.merge(*pair) if len(pair) == 2 else pair[0] for pair in pairs]
        rank = _trim(lists, rank)
    result = net.select(lists[0], lists[1], rank) if len(lists) == 2 else lists[0][rank]
    return _assemble(net, result, rows, np.array(pixels))


def _assemble(net: _Builder, result: Ref, rows: NDArray[Any], pixels: NDArray[Any]) -> _Network:
    """Keep the halves of comparators that reach the result and give them registers."""
    reach = {result[0]: result[1]}  # of every value used: how far right of the strip it is read
    last: dict[int, int] = {}
    for op in range(len(net.ops) - 1, -1, -1):
        low = net.inputs + 2 * op
        need = max(reach.get(low, -1), reach.get(low + 1, -1))
        if need < 0:
            continue
        for value, shift in net.ops[op]:
            reach[value] = max(reach.get(value, 0), need + shift)
            last.setdefault(value, op)
    registers = {value: value for value in range(net.inputs)}
    free: list[int] = []
    total = net.inputs
    ops = []
    for op, (a, b) in enumerate(net.ops):
        outs = []
        for value in (net.inputs + 2 * op, net.inputs + 2 * op + 1):
            if value in reach:
                registers[value] = free.pop() if free else total
                total = max(total, registers[value] + 1)
            outs.append(registers.get(value, -1))
        if max(outs) < 0:
            continue
        need = max(reach.get(net.inputs + 2 * op + half, 0) for half in (0, 1))
        ops.append((registers[a[0]], a[1], registers[b[0]], b[1], *outs, need))
        free.extend(registers[v] for v in {a[0], b[0]} if v >= net.inputs and last[v] == op)
    program = np.array(ops, dtype=np.int64).reshape(-1, 7)
    most = max([int(pixels[:, 1].max()), *(value for value in reach.values())])
    return _Network(rows, pixels, program, total, registers[result[0]], result[1], most)


@jit
def _keys(dst, to, src, at, n, kind, consts):
    """Map bits to ordered keys or keys to bits: each of the three maps is its own inverse."""
    to, at = np.uint64(to), np.uint64(at)
    sign, most = consts[0], consts[1]  # read once: `dst` might be the same memory
    flip = sign if kind == UNSIGNED else sign ^ sign
    if kind == FLOAT:
        for i in range(np.uint64(n)):
            bits = src[at + i]
            dst[to + i] = bits ^ (most if bits < 0 else flip)
    else:
        for i in range(np.uint64(n)):
            dst[to + i] = src[at + i] ^ flip


@jit
def _has_nan(keys, at, n, consts):
    at = np.uint64(at)
    low, high = consts[3], consts[2]  # without arithmetic they keep their width, and vectorise
    for i in range(np.uint64(n)):
        key = keys[at + i]
        low = min(low, key)
        high = max(high, key)
    return low < consts[3] or high > consts[2]


@jit
def _run_ops(regs, ops, length):
    # One flat array and unsigned indices: views would cost more than the comparators, and
    # signed indices are checked for wrap-around.
    for k in range(ops.shape[0]):
        n = np.uint64((length + ops[k, 4] + _LANES - 1) // _LANES * _LANES)
        a, b = np.uint64(ops[k, 0]), np.uint64(ops[k, 1])
        low, high = np.uint64(ops[k, 2]), np.uint64(ops[k, 3])
        if ops[k, 2] >= 0 and ops[k, 3] >= 0:
            for i in range(n):
                x, y = regs[a + i], regs[b + i]
                regs[low + i] = min(x, y)
                regs[high + i] = max(x, y)
        elif ops[k, 2] >= 0:
            for i in range(n):
                x, y = regs[a + i], regs[b + i]
                regs[low + i] = min(x, y)
        else:
            for i in range(n):
                x, y = regs[a + i], regs[b + i]
                regs[high + i] = max(x, y)


@jit
def _run_network(
    src, dst, rows, pixels, ops, registers, result, stride, reach, strip, kind, consts
):
    batch, nz, ny, nx = dst.shape
    sz, sy, sx = src.shape[1:]
    raw = np.zeros((registers + 1) * stride, dtype=src.dtype)
    regs = raw[(-raw.ctypes.data % 64) // raw.itemsize :]
    nans = np.zeros(rows.shape[0], dtype=np.bool_)
    flat, out = src.reshape(-1), dst.reshape(-1)
    for b in range(batch):
        for z in range(nz):
            for y in range(ny):
                for x in range(0, nx, strip):
                    n = min(strip, nx - x)
                    any_nan = False
                    for r in range(rows.shape[0]):
                        at = ((b * sz + z + rows[r, 0]) * sy + y + rows[r, 1]) * sx + x
                        m = min(n + reach, sx - x)
                        _keys(regs, r * stride, flat, at, m, kind, consts)
                        nans[r] = kind == FLOAT and _has_nan(regs, r * stride, m, consts)
                        any_nan |= nans[r]
                    _run_ops(regs, ops, n)
                    to = ((b * nz + z) * ny + y) * nx + x
                    _keys(out, to, regs, result, n, kind, consts)
                    if any_nan:
                        _put_nans(out, to, regs, stride, pixels, nans, n, consts)


@jit
def _put_nans(out, to, regs, stride, pixels, nans, n, consts):
    to, above, below, nan = np.uint64(to), consts[2], consts[3], consts[4]
    for p in range(pixels.shape[0]):
        if nans[pixels[p, 0]]:
            at = np.uint64(pixels[p, 0] * stride + pixels[p, 1])
            for i in range(np.uint64(n)):
                key, old = regs[at + i], out[to + i]
                out[to + i] = nan if (key > above) | (key < below) else old


# ------------------------------------------------------------------- sliding sets of rank codes


def _runs(mask: NDArray[Any]) -> NDArray[Any]:
    """Return the runs of a footprint along its rows, (runs, 4): z, y, first x, last x."""
    edges = np.diff(mask.astype(np.int8), axis=2, prepend=0, append=0)
    first, last = np.argwhere(edges == 1), np.argwhere(edges == -1)
    return np.column_stack([first, last[:, 2] - 1]).astype(np.int64)


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
def _codes(keys, codes, where, other, bins):
    """Give each key of a tile its place in sorted order, ties in raster order; return the order."""
    n = keys.shape[0]
    for i in range(n):
        where[i] = i
    bits = 8 * keys.itemsize
    digit = 8 if bits == 8 else 11
    shift = 0
    while shift < bits:
        if _digits(keys, where, other, shift, bins[: 1 << min(digit, bits - shift)]):
            where, other = other, where
        shift += digit
    for i in range(n):
        codes[where[i]] = i
    return where


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
    at, below, found[0] = _seek(words, at, below, rank)
    for x in range(1, n):
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
            _keys(row, 0, src[z, y], 0, shape[2], kind, consts)
            for x in range(shape[2]):
                key = row[x]
                if (key > consts[2]) | (key < consts[3]):
                    key = most
                    nans += 1
                keys[place] = key ^ sign
                place += 1
    return nans


@jit
def _run_slide(src, dst, runs, window, rank, tile, kind, consts):
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
            _keys(out[z, y], 0, row, 0, tx, kind, consts)
            for x in range(tx):
                if found[x] < 0:
                    out[z, y, x] = consts[4]
