"""The nearest valid pixel of a missing one: the compiled loops.

Places next to a gap are looked at one by one. Further away the search goes row by row, from the
nearest row on; each row knows, once it has been asked, its own nearest valid pixel of each column.
"""

import numpy as np

from chunkfilt.kernels._common import jit

__all__ = ["run_nearest"]

_FAR = 1 << 30  # no pixel in reach
_LOOK = 32  # pixels of a row that are looked at together far from any valid one


@jit
def _know(near, valid):
    """Note for each pixel of a row how far, and where, the nearest valid one of the row is."""
    last = -_FAR
    for x in range(valid.size):
        last = x if valid[x] else last
        near[x] = last - x
    after = _FAR
    for x in range(valid.size - 1, -1, -1):
        after = x if valid[x] else after
        # Of two as near the one before, as scipy's distance transform has it.
        near[x] = after - x if after - x < -near[x] else near[x]


@jit
def _know_all(near, known, valid, rows, z, y):
    """Make the rows around a pixel know what they are asked for."""
    for j in range(rows.shape[0]):
        plane, line = z + rows[j, 0], y + rows[j, 1]
        row = plane * valid.shape[1] + line
        if not known[row]:
            _know(near[row], valid[plane, line])
            known[row] = True


@jit
def _any(near, rows, z, y, x, lines, reach):
    """Say whether a row has a valid pixel within `reach` columns."""
    for j in range(rows.shape[0]):
        if abs(near[(z + rows[j, 0]) * lines + y + rows[j, 1], x]) <= reach:
            return True
    return False


@jit
def _search(near, rows, z, y, x, lines, limit, steps):
    """Return the place of the nearest valid pixel, relative to one of the block; or `_FAR`."""
    best, at = limit + 1, _FAR
    bz, by, bx = 0, 0, 0
    for j in range(rows.shape[0]):
        square = rows[j, 2]
        if square > best:
            break
        dz, dy = rows[j, 0], rows[j, 1]
        dx = np.int64(near[(z + dz) * lines + y + dy, x])
        square += dx * dx
        # As near as another: the smallest x, then y, then z.
        first = dx < bx or (dx == bx and (dy < by or (dy == by and dz < bz)))
        if square < best or (square == best and at != _FAR and first):
            best, bz, by, bx = square, dz, dy, dx
            at = dz * steps[0] + dy * steps[1] + dx
    return at


@jit
def run_nearest(view, valid, out, close, rows, near, known, halo, reach, limit, missing):
    """Copy valid pixels, and take the nearest one for others."""
    batch, nz, ny, nx = out.shape
    pixels, counts, lines = view.reshape(-1), valid.reshape(-1), view.shape[2]
    steps = (view.shape[2] * view.shape[3], view.shape[3])
    for b in range(batch):
        known[:] = False
        for z in range(halo[0], halo[0] + nz):
            for y in range(halo[1], halo[1] + ny):
                target = out[b, z - halo[0], y - halo[1]]
                first = (b * view.shape[1] + z) * steps[0] + y * steps[1] + halo[2]
                target[:] = pixels[first : first + nx]
                here = counts[first : first + nx]
                asked, some = 0, False
                for x in range(nx):
                    if here[x]:
                        continue
                    if x < asked and not some:
                        target[x] = missing
                        continue
                    at = _FAR
                    for j in range(close.size):
                        if counts[first + x + close[j]]:
                            at = close[j]
                            break
                    if at == _FAR and rows.shape[0] > 0:
                        if x >= asked:
                            # Far from any valid pixel a look at a few columns settles many.
                            half = min(_LOOK, nx - x) // 2
                            _know_all(near, known, valid[b], rows, z, y)
                            some = _any(near, rows, z, y, x + half + halo[2], lines, half + reach)
                            asked = x + 2 * half + 1
                        if some:
                            at = _search(near, rows, z, y, x + halo[2], lines, limit, steps)
                    target[x] = missing if at == _FAR else pixels[first + x + at]
