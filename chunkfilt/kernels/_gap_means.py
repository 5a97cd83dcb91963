"""Weighted means of the valid pixels around a missing one: the compiled loops.

The pixels of a stretch of a row are taken together, always in the same order of places: four
neighbours of a row at a time, then what is left of it, row by row.
"""

import numpy as np

from chunkfilt.kernels._common import jit

__all__ = ["STRETCH", "run_means"]

STRETCH = 512  # pixels of a row whose means are taken at once
_FAR = 1 << 30  # no pixel in the row
_FEW = 6  # pixels of a stretch from which on loops along it pay
_JOIN = 4  # valid pixels between two missing ones that are not worth a new stretch


@jit
def _know_next(ahead, valid):
    """Note for each pixel of a row how far the next valid one is, itself included."""
    after = _FAR
    for x in range(valid.size - 1, -1, -1):
        after = x if valid[x] else after
        ahead[x] = after - x


@jit
def _add(total, share, pixels, counts, weight):
    """Add a place of every pixel of a stretch, where it counts."""
    for k in range(total.size):
        value, there = np.float64(pixels[k]) * weight, counts[k]
        total[k] += value if there else 0.0
        share[k] += weight if there else 0.0


@jit
def _add_four(total, share, pixels, counts, first, weights):
    """Add four neighbouring places, from `first`, of every pixel of a stretch."""
    s, t, u, v = weights[0], weights[1], weights[2], weights[3]
    for k in range(total.size):
        i = np.uint64(first + k)
        p, q = np.float64(pixels[i]) * s, np.float64(pixels[i + np.uint64(1)]) * t
        r, w = np.float64(pixels[i + np.uint64(2)]) * u, np.float64(pixels[i + np.uint64(3)]) * v
        a, b = counts[i], counts[i + np.uint64(1)]
        c, d = counts[i + np.uint64(2)], counts[i + np.uint64(3)]
        left = (p if a else 0.0) + (q if b else 0.0)
        right = (r if c else 0.0) + (w if d else 0.0)
        total[k] += left + right
        left = (s if a else 0.0) + (t if b else 0.0)
        right = (u if c else 0.0) + (v if d else 0.0)
        share[k] += left + right


@jit
def _add_row(total, share, pixels, counts, first, weights):
    """Add a row of places, from `first`, of every pixel of a stretch: fours, then single ones."""
    n, count = total.size, weights.size
    fours = count - count % 4
    for d in range(0, fours, 4):
        _add_four(total, share, pixels, counts, first + d, weights[d : d + 4])
    for d in range(fours, count):
        a = first + d
        _add(total, share, pixels[a : a + n], counts[a : a + n], weights[d])


@jit
def _add_pixel(total, share, pixels, counts, first, weights):
    """Add a row of places of one pixel, in the order of `_add_row`."""
    count = weights.size
    fours = count - count % 4
    for d in range(0, fours, 4):
        i = np.uint64(first + d)
        left, right, less, more = 0.0, 0.0, 0.0, 0.0
        if counts[i]:
            left, less = np.float64(pixels[i]) * weights[d], weights[d]
        if counts[i + np.uint64(1)]:
            left += np.float64(pixels[i + np.uint64(1)]) * weights[d + 1]
            less += weights[d + 1]
        if counts[i + np.uint64(2)]:
            right, more = np.float64(pixels[i + np.uint64(2)]) * weights[d + 2], weights[d + 2]
        if counts[i + np.uint64(3)]:
            right += np.float64(pixels[i + np.uint64(3)]) * weights[d + 3]
            more += weights[d + 3]
        total += left + right
        share += less + more
    for d in range(fours, count):
        i = np.uint64(first + d)
        if counts[i]:
            total += np.float64(pixels[i]) * weights[d]
            share += weights[d]
    return total, share


@jit
def _gather(total, share, pixels, counts, valid, ahead, known, rows, weights, z, y, x, base):
    """Add up weighted pixels, and weights, for a stretch of a row that starts at `x`."""
    n = total.size
    total[:] = 0.0
    share[:] = 0.0
    place = 0
    for j in range(rows.shape[0]):
        plane, line, half = z + rows[j, 0], y + rows[j, 1], rows[j, 3]
        row = plane * valid.shape[1] + line
        own = weights[place : place + 2 * half + 1]
        place += own.size
        if n >= _FEW:
            if not known[row]:
                _know_next(ahead[row], valid[plane, line])
                known[row] = True
            if ahead[row, x - half] >= n + 2 * half:
                continue
        first = base + row * valid.shape[2] + x - half
        if n >= _FEW:
            _add_row(total, share, pixels, counts, first, own)
        else:
            for k in range(n):
                total[k], share[k] = _add_pixel(total[k], share[k], pixels, counts, first + k, own)


@jit
def _store(target, here, total, share, missing, lowest, highest, real):
    """Store the means of the missing pixels of a stretch."""
    kind = target.dtype.type
    for k in range(target.size):
        if here[k]:
            continue
        if share[k] == 0.0:
            target[k] = missing
            continue
        mean = total[k] / share[k]
        if real:
            target[k] = kind(mean)
        else:
            mean = np.rint(mean)
            # The largest integers of 64 bits are no floats.
            target[k] = highest if mean >= np.float64(highest) else kind(max(mean, lowest))


@jit
def run_means(
    view, valid, out, rows, weights, ahead, known, sums, halo, missing, lowest, highest, real
):  # fmt: skip
    """Copy valid pixels, and take a weighted mean for others."""
    batch, nz, ny, nx = out.shape
    pixels, counts = view.reshape(-1), valid.reshape(-1)
    size = view.shape[1] * view.shape[2] * view.shape[3]
    for b in range(batch):
        known[:] = False
        for z in range(halo[0], halo[0] + nz):
            for y in range(halo[1], halo[1] + ny):
                target = out[b, z - halo[0], y - halo[1]]
                here = valid[b, z, y, halo[2] : halo[2] + nx]
                target[:] = view[b, z, y, halo[2] : halo[2] + nx]
                x = 0
                while x < nx:
                    if here[x]:
                        x += 1
                        continue
                    last = x  # the stretch's last missing pixel
                    k = x + 1
                    while k < nx and k - last <= _JOIN and k - x < STRETCH:
                        if not here[k]:
                            last = k
                        k += 1
                    n = last - x + 1
                    _gather(
                        sums[0, :n], sums[1, :n], pixels, counts, valid[b], ahead, known, rows,
                        weights, z, y, x + halo[2], b * size,
                    )  # fmt: skip
                    _store(
                        target[x : x + n], here[x : x + n], sums[0, :n], sums[1, :n], missing,
                        lowest, highest, real,
                    )  # fmt: skip
                    x += n
