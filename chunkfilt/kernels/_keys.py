"""Keys: integers in the order of the values, and exact selection by the digits of keys.

The bits of every dtype become signed integers of their own width whose order is the order of the
values: those of floats by the sign-flip trick, those of bool and unsigned integers by turning the
first bit over. So whatever compares pixels can compare integers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from chunkfilt.kernels._common import jit

__all__ = [
    "FLOAT",
    "UNSIGNED",
    "bit_rows",
    "digit_counts",
    "flip_bits",
    "key_rule",
    "key_to_value",
    "map_keys",
    "mask_rows",
    "value_to_key",
]

PLAIN, UNSIGNED, FLOAT = 0, 1, 2  # how the bits of a dtype become keys


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


def value_to_key(values: NDArray[Any]) -> NDArray[np.uint64]:
    """Map values to unsigned keys of their own width in the same order; -0.0 has the key of 0.0.

    Examples
    --------
    >>> value_to_key(np.array([-128, 127], np.int8))
    array([  0, 255], dtype=uint64)
    """
    flat = np.asarray(values).reshape(1, -1)
    kind, consts = key_rule(flat.dtype)
    bits = bit_rows(flat)[0]
    if kind == FLOAT:
        bits = np.where(bits == consts[0], 0 * bits, bits)  # -0.0
    bits = flip_bits(bits, kind, consts)
    keys = bits.astype(np.int64).view(np.uint64) - _offset(consts)
    return keys.reshape(np.shape(values))


def key_to_value(keys: ArrayLike, dtype: DTypeLike) -> NDArray[Any]:
    """Map keys back to the values of a dtype, the inverse of `value_to_key`.

    Examples
    --------
    >>> key_to_value(value_to_key(np.array([-1.5])), np.float64)
    array([-1.5])
    """
    native = np.dtype(dtype).newbyteorder("=")
    kind, consts = key_rule(native)
    wide = np.asarray(keys, np.uint64) + _offset(consts)
    bits = wide.astype(np.int64).astype(consts.dtype)
    bits = np.ascontiguousarray(flip_bits(bits, kind, consts))
    return bits.view(native).reshape(np.shape(keys))


def digit_counts(
    block: NDArray[Any],
    shift: int,
    bits: int,
    prefixes: NDArray[np.uint64],
    mask: NDArray[Any] | None = None,
) -> NDArray[np.int64]:
    """Count the next digit of the keys that begin with a prefix: a step of exact selection.

    With ``key = value_to_key(pixel)``, counts ``(key >> shift) % 2**bits`` over the pixels with
    ``key >> (shift + bits) == prefix``. NaN has no place in the order and is not counted.

    Parameters
    ----------
    block : ndarray, shape (batch, *spatial)
        bool, integers or floats to 64 bits.
    shift, bits : int
        Place and width of the digit; together at most 64.
    prefixes : ndarray of uint64, shape (batch, m)
        What stands above the digit; 0 for the first digit.
    mask : ndarray of bool, optional
        The shape of the block.

    Returns
    -------
    ndarray of int64, shape (batch, m, 2**bits)

    Raises
    ------
    ValueError
        If the digit does not lie in 64 bits or the prefixes do not fit the block.

    Examples
    --------
    >>> block, first = np.array([[0, 1, 5, 255]], np.uint8), np.zeros((1, 1), np.uint64)
    >>> digit_counts(block, 4, 4, first)[0, 0, 0]
    np.int64(3)
    """
    if shift < 0 or bits < 1 or shift + bits > 64:
        raise ValueError(f"digit of {bits} bits at {shift} is not within 64 bits")
    heads = np.ascontiguousarray(prefixes, np.uint64)
    if heads.ndim != 2 or heads.shape[0] != block.shape[0]:
        raise ValueError(f"prefixes of shape {heads.shape} for {block.shape[0]} batch indices")
    data, kind, consts = bit_rows(block)
    out = np.zeros((*heads.shape, 1 << bits), np.int64)
    keep = mask_rows(block, mask)
    _digit_counts(data, keep, kind, consts, _offset(consts), shift, bits, heads, out)
    return out


def bit_rows(block: NDArray[Any]) -> tuple[NDArray[Any], int, NDArray[Any]]:
    """Return the bits of the pixels as rows of signed integers, and how to key them."""
    kind, consts = key_rule(block.dtype)
    native = np.ascontiguousarray(block, block.dtype.newbyteorder("="))
    rows = native.view(consts.dtype).reshape(block.shape[0], -1)
    rows.flags.writeable = False
    return rows, kind, consts


def mask_rows(block: NDArray[Any], mask: NDArray[Any] | None) -> NDArray[Any]:
    """Return a mask as rows of 0 and 1; rows of length zero mean no mask."""
    if mask is None:
        rows = np.empty((block.shape[0], 0), np.uint8)
    elif mask.shape != block.shape:
        raise ValueError(f"mask of shape {mask.shape} for a block of shape {block.shape}")
    else:
        rows = np.ascontiguousarray(mask, np.bool_).view(np.uint8).reshape(block.shape[0], -1)
    rows.flags.writeable = False
    return rows


def flip_bits(bits: NDArray[Any], kind: int, consts: NDArray[Any]) -> NDArray[Any]:
    """Map bits to signed keys in the order of the values, or keys to bits."""
    if kind == FLOAT:
        return np.where(bits < 0, bits ^ consts[1], bits)
    return bits ^ consts[0] if kind == UNSIGNED else bits


def _offset(consts: NDArray[Any]) -> np.uint64:
    """Return the least signed key modulo 2**64: subtracted, it makes keys start at zero."""
    return np.uint64(int(consts[0]) % (1 << 64))


@jit
def map_keys(dst, to, src, at, n, kind, consts):
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
def _digit_counts(bits, keep, kind, consts, offset, shift, width, heads, out):
    masked = keep.shape[1] > 0
    whole = shift + width >= 64  # a shift by 64 is undefined
    up, down = np.uint64(shift), np.uint64(0 if whole else shift + width)
    top = np.uint64((1 << width) - 1)
    zero = consts[0] ^ consts[0]
    for b in range(bits.shape[0]):
        for i in range(np.uint64(bits.shape[1])):
            v = bits[b, i]
            if kind == FLOAT:
                v = zero if v == consts[0] else v ^ (consts[1] if v < 0 else zero)
                if v > consts[2] or v < consts[3]:
                    continue
            elif kind == UNSIGNED:
                v = v ^ consts[0]
            if masked and keep[b, i] == 0:
                continue
            key = np.uint64(np.int64(v)) - offset
            head = np.uint64(0) if whole else key >> down
            for j in range(heads.shape[1]):
                if head == heads[b, j]:
                    out[b, j, (key >> up) & top] += 1
