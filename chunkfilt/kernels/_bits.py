"""Binary erosion on bits: 64 pixels of a row in a word, and rows one after another.

A plane of bits is one long line, so moving it along any axis is one shift.  What runs over from
one row into another only reaches pixels whose window leaves the plane; those are cut off in the
end.  A box of pixels is joined from planes that hold the erosion by boxes of 1, 2, 4 ... pixels
along each axis: two of them cover it along an axis, so that its size hardly matters.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from chunkfilt.kernels._common import jit

__all__ = ["PLANES", "Bits", "Box", "cover"]

Box = tuple[tuple[int, int], ...]  # (begin, length) along z, y and x

PLANES = 9
_LADDER, _FREE = 2, 8  # planes 0 and 1 hold the pixels in turn, two for each axis the boxes
_AT_ONCE = 4  # taps that one loop joins
_READ = 1 << 17  # pixels read at a time: what is copied once more stays in a core's cache
_FEW = 2 * _AT_ONCE  # pixels of a structure that are joined one by one


class Bits:
    """Pixels as bits, which erosions and dilations change one after another."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        z, y, x = shape
        self.shape, self.words = shape, -(-x // 64)
        self.size = z * y * self.words
        # A shift reads the word after the last, whose bits never matter.
        self.planes = np.zeros((PLANES, self.size + 1), np.uint64)
        self.now, self.turned = 0, False
        self.moved = (0, 0, 0)  # where the first bit of plane `now` stands in the image given

    def fill(self, pixels: NDArray[Any], free: NDArray[Any] | None = None) -> None:
        """Take pixels, of bool or integers; where `free` is zero they keep their values."""
        self.now, self.turned, self.moved = 0, False, (0, 0, 0)
        for plane, given in ((0, pixels), (_FREE, free)):
            if given is not None:
                packed = np.packbits(given, axis=-1, bitorder="little")
                self._bytes(plane)[..., : packed.shape[-1]] = packed

    def read(self, out: NDArray[Any]) -> None:
        """Give the first pixels along each axis as bool."""
        self._turn(False)
        z, y, x = out.shape
        held, told = self._bytes(self.now)[:z, :y, : -(-x // 8)], out.view(np.uint8)
        rows = max(_READ // max(z * x, 1), 1)
        for k in range(0, y, rows):
            part = np.unpackbits(held[:, k : k + rows], axis=-1, count=x, bitorder="little")
            told[:, k : k + rows] = part

    def step(
        self, boxes: tuple[Box, ...], centre: tuple[int, int, int], grow: bool, bound: bool
    ) -> None:
        """Erode by the boxes, or dilate where `grow`, and lose their extent at the far ends.

        `centre` is the pixel's own place in the window; with `bound` those not free stay.
        """
        self._turn(grow)  # a dilation is the erosion of what is not there
        before, after = self.now, 1 - self.now
        self._erode(before, after, boxes)
        at = (self.moved[0] + centre[0], self.moved[1] + centre[1], self.moved[2] + centre[2])
        if bound:
            (word, bit), (word2, bit2) = self._shift(centre), self._shift(at)
            n = self.size - max(word, word2)
            held, free = self.planes[before], self.planes[_FREE]
            _blend(self.planes[after][:n], held, word, bit, free, word2, bit2)
        self.now, self.moved = after, at

    def _erode(self, source: int, target: int, boxes: tuple[Box, ...]) -> None:
        if not boxes:
            self.planes[target] = ~np.uint64(0)
        taps: dict[tuple[int, ...], set[tuple[int, int]]] = {}
        for box in boxes:
            level = tuple(length.bit_length() - 1 for _, length in box)
            taps.setdefault(level, set()).update(self._corners(box, level))
        height, held, started = [0, 0, 0], [source] * 3, False
        # Along x first, then y: planes along an axis begin from those of the axis before.
        for level in sorted(taps, key=lambda k: k[::-1]):
            self._climb(height, held, level)
            shifts = sorted(taps[level])
            for k in range(0, len(shifts), _AT_ONCE):
                self._join(target, held[0], shifts[k : k + _AT_ONCE], started)
                started = True

    def _climb(self, height: list[int], held: list[int], level: tuple[int, ...]) -> None:
        """Double boxes along each axis until they are as large as wanted."""
        moved = False
        for axis in (2, 1, 0):
            if moved or height[axis] > level[axis]:
                height[axis], held[axis] = 0, held[axis + 1] if axis < 2 else held[axis]
            while height[axis] < level[axis]:
                place = [0, 0, 0]
                place[axis] = 1 << height[axis]
                free = _LADDER + 2 * axis + height[axis] % 2
                self._join(free, held[axis], [(0, 0), self._shift(place)], False)
                held[axis], height[axis], moved = free, height[axis] + 1, True

    def _corners(self, box: Box, level: tuple[int, ...]) -> list[tuple[int, int]]:
        """Return the shifts of the boxes of powers of two that cover a box."""
        places: list[list[int]] = [[]]
        for (begin, length), k in zip(box, level, strict=True):
            ends = {begin, begin + length - (1 << k)}
            places = [[*place, end] for place in places for end in ends]
        return [self._shift(place) for place in places]

    def _shift(self, place: Any) -> tuple[int, int]:
        """Return how far a place lies behind the first pixel, in words and bits."""
        z, y, x = place
        return (z * self.shape[1] + y) * self.words + x // 64, x % 64

    def _join(self, target: int, source: int, shifts: list[tuple[int, int]], fold: bool) -> None:
        n = self.size - max(word for word, _ in shifts)
        if n > 0:
            at = np.array([*shifts, *[shifts[-1]] * (_AT_ONCE - len(shifts))], np.uint64).T
            join = _fold if fold else _join
            join(self.planes[target][:n], self.planes[source], at[0], at[1], len(shifts))

    def _turn(self, turned: bool) -> None:
        if turned != self.turned:
            np.invert(self.planes[self.now], out=self.planes[self.now])
            self.turned = turned

    def _bytes(self, plane: int) -> NDArray[np.uint8]:
        z, y, _ = self.shape
        held = self.planes[plane, : self.size].view(np.uint8)
        return held.reshape(z, y, self.words * 8)


def cover(cells: NDArray[np.bool_]) -> tuple[Box, ...]:
    """Return boxes that cover the pixels of a structure of three axes, and nothing else.

    Runs along x that several rows have in common become one box, and so do those of planes.

    Examples
    --------
    >>> cover(np.ones((1, 3, 4), bool))
    (((0, 1), (0, 3), (0, 4)),)
    """
    if int(cells.sum()) <= _FEW:
        return tuple(tuple((int(i), 1) for i in at) for at in np.argwhere(cells))
    boxes: dict[tuple[Any, Any], list[int]] = {}
    for z, plane in enumerate(cells):
        rows: dict[tuple[int, int], list[int]] = {}
        for y in np.flatnonzero(plane.any(axis=1)):
            for run in _runs(np.flatnonzero(plane[y])):
                rows.setdefault(run, []).append(int(y))
        for run, ys in rows.items():
            for along in _runs(np.array(ys)):
                boxes.setdefault((along, run), []).append(z)
    return tuple((along, *rest) for rest, zs in boxes.items() for along in _runs(np.array(zs)))


def _runs(at: NDArray[Any]) -> list[tuple[int, int]]:
    """Return `(begin, length)` of the runs of consecutive numbers."""
    cuts = np.flatnonzero(np.diff(at) > 1)
    begins, ends = at[[0, *(cuts + 1)]], at[[*cuts, -1]]
    return [(int(a), int(b - a + 1)) for a, b in zip(begins, ends, strict=True)]


@jit
def _moved(flat, i, word, bit):
    """Return the word that a plane moved by so many words and bits holds at i."""
    at = i + word
    # Two shifts, because one by 64 is undefined.
    over = flat[at + np.uint64(1)] << np.uint64(1)
    return (flat[at] >> bit) | (over << (np.uint64(63) - bit))


@jit
def _join(out, flat, words, bits, count):
    """Join one, two or up to four moves of a plane: the bits that are 1 in all of them."""
    w0, w1, w2, w3 = words[0], words[1], words[2], words[3]
    b0, b1, b2, b3 = bits[0], bits[1], bits[2], bits[3]
    if count == 1:
        for k in range(out.size):
            out[k] = _moved(flat, np.uint64(k), w0, b0)
    elif count == 2:
        for k in range(out.size):
            i = np.uint64(k)
            out[k] = _moved(flat, i, w0, b0) & _moved(flat, i, w1, b1)
    else:
        for k in range(out.size):
            i = np.uint64(k)
            held = _moved(flat, i, w0, b0) & _moved(flat, i, w1, b1)
            out[k] = held & _moved(flat, i, w2, b2) & _moved(flat, i, w3, b3)


@jit
def _fold(out, flat, words, bits, count):
    """Join up to four moves of a plane into another."""
    w0, w1, w2, w3 = words[0], words[1], words[2], words[3]
    b0, b1, b2, b3 = bits[0], bits[1], bits[2], bits[3]
    if count <= 2:
        for k in range(out.size):
            i = np.uint64(k)
            out[k] &= _moved(flat, i, w0, b0) & _moved(flat, i, w1, b1)
    else:
        for k in range(out.size):
            i = np.uint64(k)
            held = _moved(flat, i, w0, b0) & _moved(flat, i, w1, b1)
            out[k] &= held & _moved(flat, i, w2, b2) & _moved(flat, i, w3, b3)


@jit
def _blend(out, held, word, bit, free, word2, bit2):
    """Keep the bits held, moved, where those of `free`, moved, are 0."""
    w, b = np.uint64(word), np.uint64(bit)
    w2, b2 = np.uint64(word2), np.uint64(bit2)
    for k in range(out.size):
        i = np.uint64(k)
        may = _moved(free, i, w2, b2)
        out[k] = (out[k] & may) | (_moved(held, i, w, b) & ~may)
