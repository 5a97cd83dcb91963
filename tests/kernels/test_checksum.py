"""The checksum against the same formula in NumPy, and what it must and must not see."""

from itertools import pairwise, product

import numpy as np
import pytest

from chunkfilt.kernels.checksum import (
    combine_checksums,
    format_checksum,
    image_checksum,
)

REAL = ["?", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"]


def whole(image):
    return image_checksum(image, (0,) * image.ndim, image.shape)


def random_image(shape, dtype, seed=0):
    rng = np.random.default_rng(seed)
    dtype = np.dtype(dtype)
    if dtype.kind in "fc":
        values = rng.normal(size=shape)
        return (values + 1j * rng.normal(size=shape) if dtype.kind == "c" else values).astype(dtype)
    if dtype.kind == "b":
        return rng.random(shape) < 0.5
    return rng.integers(0, 2**63, shape).astype(dtype)


def oracle(image):
    u = np.uint64
    bits = image.ravel().view(f"u{image.dtype.itemsize}").astype(u)
    place = np.arange(bits.size, dtype=u) * u(0x9E3779B97F4A7C15)
    z = (place ^ (place >> u(32))) + bits
    z = (z ^ (z >> u(30))) * u(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> u(27))) * u(0x94D049BB133111EB)
    return sum((z ^ (z >> u(31))).tolist()) % 2**64


@pytest.mark.parametrize("dtype", REAL)
def test_formula(dtype):
    image = random_image((5, 67), dtype)
    assert whole(image) == oracle(image)


@pytest.mark.parametrize("dtype", [*REAL, "c8", "c16"])
def test_any_boxes_add_up(dtype):
    image = random_image((5, 6, 7), dtype)
    total = whole(image)
    assert whole(image) != whole(np.roll(image, 1))
    rng = np.random.default_rng(1)
    for _ in range(4):
        cuts = [[0, *sorted(rng.integers(0, n + 1, 2).tolist()), n] for n in image.shape]
        parts = []
        for corner in product(*(pairwise(c) for c in cuts)):
            box = tuple(slice(a, b) for a, b in corner)
            parts.append(image_checksum(image[box], [a for a, _ in corner], image.shape))
        assert combine_checksums(*rng.permutation(np.array(parts, object))) == total


def test_all_numbers_of_axes():
    image = random_image((2, 3, 2, 2, 3, 2), "u2")
    assert whole(image) == whole(image.ravel()) == whole(image.reshape(6, 24))
    assert whole(np.array(3.5)) == whole(np.array([3.5]))
    parts = [image_checksum(image[:, i : i + 1], (0, i, 0, 0, 0, 0), image.shape) for i in range(3)]
    assert combine_checksums(*parts) == whole(image)


def test_layout_byte_order_and_input_do_not_matter():
    image = random_image((9, 11), "f4")
    image.flags.writeable = False
    before = image.tobytes()
    total = whole(image)
    assert whole(np.asfortranarray(image)) == total
    assert whole(image.astype(">f4")) == total
    padded = np.zeros((9, 30), np.float32)
    padded[:, 4:26:2] = image
    assert whole(padded[:, 4:26:2]) == total
    assert image.tobytes() == before
    assert not image.flags.writeable


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_nan_is_one_value_and_zeros_are_two(dtype):
    image = np.zeros(20, dtype)
    quiet, other = image.copy(), image.copy()
    quiet[3] = np.nan
    bits = other.view(f"u{image.dtype.itemsize}")
    bits[3] = np.array([-np.inf], dtype).view(bits.dtype)[0] + 5  # a negative NaN with a payload
    assert np.isnan(other[3])
    assert whole(quiet) == whole(other) != whole(image)
    infinite = image.copy()
    infinite[3] = np.inf
    assert len({whole(image), whole(quiet), whole(infinite), whole(-infinite)}) == 4
    image[5] = -0.0
    assert whole(image) != whole(np.zeros(20, dtype))


def test_complex_nan_and_parts():
    one = np.array([1 + 2j, 3 + 4j])
    assert whole(one) == whole(one.view(np.float64))
    assert whole(one) != whole(np.array([2 + 1j, 3 + 4j]))


def test_swaps_and_small_changes_are_seen():
    image = np.arange(64, dtype=np.uint8)
    seen = {whole(image)}
    for i in range(64):
        for j in range(i):
            swapped = image.copy()
            swapped[[i, j]] = swapped[[j, i]]
            seen.add(whole(swapped))
    for i, bit in product(range(64), range(8)):
        flipped = image.copy()
        flipped[i] ^= 1 << bit
        seen.add(whole(flipped))
    # Each value is a swap or a flip of its own, but 32 flips of the lowest bit pairs (2k, 2k+1)
    # are not swaps, as they change one pixel only.
    assert len(seen) == 1 + 64 * 63 // 2 + 64 * 8


def test_constant_images_are_told_apart():
    images = [np.full((32, 32), v, np.uint16) for v in range(300)]
    assert len({whole(image) for image in images}) == 300


def test_places_beyond_32_bits():
    shape = (10**6, 10**6, 10)
    pixel = np.ones((1, 1, 1), np.uint8)
    places = [(0, 0, 0), (4294, 967296, 0), (999_999, 999_999, 9), (999_999, 999_999, 8)]
    assert len({image_checksum(pixel, p, shape) for p in places}) == 4


def test_empty_and_combine():
    assert image_checksum(np.zeros((0, 5), np.uint8), (2, 0), (4, 5)) == 0
    assert combine_checksums() == 0
    assert combine_checksums(2**64 - 1, 2) == 1


def test_format():
    assert format_checksum(0xABC) == "cf1:0000000000000abc"
    with pytest.raises(ValueError, match="checksum lies in"):
        format_checksum(2**64)


def test_errors():
    with pytest.raises(ValueError, match="not inside"):
        image_checksum(np.zeros((3, 3)), (2, 0), (4, 5))
    with pytest.raises(ValueError, match="same axes"):
        image_checksum(np.zeros((3, 3)), (0,), (4, 5))
    with pytest.raises(TypeError, match="object"):
        image_checksum(np.array([None]), (0,), (1,))
