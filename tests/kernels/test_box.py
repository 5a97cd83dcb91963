"""Box windows against exact arithmetic on `sliding_window_view`."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view
from numpy.testing import assert_array_equal

from chunkfilt.kernels.box import box_max, box_mean, box_min, box_sum, box_variance

SMALL = ["bool", "uint8", "int8", "uint16", "int16"]
WIDE = ["uint32", "int32", "uint64", "int64"]
FLOATS = ["float16", "float32", "float64"]


def image(dtype, shape, seed=0):
    """Noise over the whole range of a dtype, both extremes included."""
    rng = np.random.default_rng(seed)
    kind = np.dtype(dtype)
    if kind.kind == "b":
        return rng.random(shape) < 0.5
    if kind.kind == "f":
        return (rng.normal(size=shape) * 100).astype(kind)
    info = np.iinfo(kind)
    pixels = rng.integers(info.min, info.max, shape, kind, endpoint=True)
    pixels.flat[::5] = info.max
    pixels.flat[1::7] = info.min
    return pixels


def windows(block, size):
    """The windows' pixels on one last axis."""
    axes = tuple(range(1, block.ndim))
    view = sliding_window_view(block, size, axes)
    return view.reshape(*view.shape[: block.ndim], -1)


def real(dtype):
    kind = np.dtype(dtype)
    return np.float32 if kind.name in (*SMALL, "float16", "float32") else np.float64


def exact_sum(block, size):
    """Sums in Python's integers."""
    return windows(block.astype(object) + 0, size).sum(axis=-1)


def two_pass(block, size, ddof=0):
    pixels = windows(block.astype(np.float64), size)
    mean = pixels.mean(axis=-1, keepdims=True)
    return ((pixels - mean) ** 2).sum(axis=-1) / (pixels.shape[-1] - ddof)


@pytest.mark.parametrize("dtype", SMALL + WIDE)
def test_integer_sums_and_means_are_exact(dtype):
    block = image(dtype, (2, 9, 23))
    size = (3, 6)
    total = exact_sum(block, size).astype(np.float64)
    result = box_sum(block, size)
    assert result.dtype == np.float64
    assert_array_equal(result, total)
    mean = box_mean(block, size)
    assert mean.dtype == real(dtype)
    assert_array_equal(mean, (total / 18).astype(real(dtype)))


@pytest.mark.parametrize("size", [(32, 48), (32, 32), (1, 7), (8, 1), (11, 13), (31, 23)])
def test_integer_means_are_rounded_once(size):
    # 1536 pixels: quotients that lie between two numbers of float32, where a product would not do.
    block = image("uint16", (1, 50, 70))
    total = exact_sum(block, size).astype(np.float64)
    assert_array_equal(box_mean(block, size), (total / np.prod(size)).astype(np.float32))


@pytest.mark.parametrize("length", [*range(1, 65), 100, 125, 299])
def test_windows_of_every_length(length):
    block = image("float32", (1, 340, 3)).round(0)
    expected = windows(block.astype(np.float64), (length, 1)).sum(axis=-1)
    assert_array_equal(box_sum(block, (length, 1)), expected.astype(np.float32))
    turned = np.ascontiguousarray(block.swapaxes(1, 2))
    assert_array_equal(box_sum(turned, (1, length)).swapaxes(1, 2), expected.astype(np.float32))


@pytest.mark.parametrize("dtype", FLOATS)
def test_float_sums_and_means(dtype):
    block = image(dtype, (2, 9, 23))
    expected = windows(block.astype(np.float64), (4, 5)).sum(axis=-1)
    scale = np.abs(expected).max()
    for result, reference in [
        (box_sum(block, (4, 5)), expected),
        (box_mean(block, (4, 5)), expected / 20),
    ]:
        assert result.dtype == real(dtype)
        assert_array_equal(np.abs(result - reference) <= 1e-6 * scale, True)


@pytest.mark.parametrize("dtype", SMALL)
@pytest.mark.parametrize("ddof", [0, 1])
def test_variance_of_small_integers_is_exact(dtype, ddof):
    block = image(dtype, (1, 12, 21))
    pixels = windows(block.astype(np.int64), (5, 4))
    n, s1, s2 = 20, pixels.sum(axis=-1), (pixels**2).sum(axis=-1)
    expected = (n * s2 - s1 * s1).astype(np.float64) / (n * (n - ddof))
    result = box_variance(block, (5, 4), ddof)
    assert result.dtype == np.float32
    assert_array_equal(result, expected.astype(np.float32))
    root = box_variance(block, (5, 4), ddof, sqrt=True)
    assert_array_equal(root, np.sqrt(expected).astype(np.float32))


@pytest.mark.parametrize("dtype", ["int32", "uint64", *FLOATS])
def test_variance_of_other_dtypes(dtype):
    block = image(dtype, (1, 12, 21))
    result = box_variance(block, (3, 7), 1)
    assert result.dtype == real(dtype)
    expected = two_pass(block, (3, 7), 1)
    assert_array_equal(np.abs(result - expected) <= 1e-6 * expected, True)


def test_variance_of_large_integer_windows():
    block = image("uint16", (1, 221, 225))
    result = box_variance(block, (220, 222))
    expected = two_pass(block, (220, 222))
    assert_array_equal(np.abs(result - expected) <= 1e-6 * expected, True)


@pytest.mark.parametrize("size", [(3, 3), (15, 15), (1, 20)])
def test_variance_does_not_cancel(size):
    rng = np.random.default_rng(3)
    block = (1e7 + 20 * rng.normal(size=(1, 40, 40))).astype(np.float32)
    expected = two_pass(block, size)
    result = box_variance(block, size)
    assert_array_equal(np.abs(result - expected) <= 1e-6 * expected, True)
    assert (result >= 0).all()


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
@pytest.mark.parametrize("length", [*range(1, 33), 64, 101, 126, 299])
def test_variances_and_extremes_of_every_length(dtype, length):
    block = image(dtype, (1, 310, 3))
    pixels = windows(block, (length, 1)).astype(np.float64)
    expected = two_pass(block, (length, 1))
    for one, size in [(block, (length, 1)), (block.swapaxes(1, 2), (1, length))]:
        result = box_variance(one, size)
        result = result if one is block else result.swapaxes(1, 2)
        assert_array_equal(np.abs(result - expected) <= 1e-6 * expected, True)
        for kernel, reduce in [(box_max, np.max), (box_min, np.min)]:
            result = kernel(one, size)
            result = result if one is block else result.swapaxes(1, 2)
            assert_array_equal(result, reduce(pixels, axis=-1))


@pytest.mark.parametrize("dtype", ["uint16", "float32", "int32"])
@pytest.mark.parametrize("depth", [2, 5, 6, 12, 27])
def test_variances_of_deep_windows(dtype, depth):
    block = image(dtype, (1, depth + 2, 16, 9))
    size = (depth, 11, 4)
    result, expected = box_variance(block, size), two_pass(block, size)
    assert_array_equal(np.abs(result - expected) <= 1e-6 * expected, True)


@pytest.mark.parametrize("value", [0.1, 1e300, -7e7 / 3])
def test_variance_of_a_constant_is_zero(value):
    block = np.full((1, 20, 20), value)
    assert_array_equal(box_variance(block, (7, 15)), np.zeros((1, 14, 6)))


def test_variance_without_degrees_of_freedom_is_nan():
    assert np.isnan(box_variance(np.ones((1, 4, 4)), (1, 2), ddof=2)).all()


@pytest.mark.parametrize("dtype", SMALL + WIDE + FLOATS)
def test_extremes(dtype):
    block = image(dtype, (2, 9, 23))
    for kernel, reduce in [(box_max, np.max), (box_min, np.min)]:
        result = kernel(block, (4, 7))
        assert result.dtype == block.dtype
        assert_array_equal(result, reduce(windows(block, (4, 7)), axis=-1))


@pytest.mark.parametrize("shape", [(30,), (9, 30), (6, 7, 13)])
@pytest.mark.parametrize("length", [1, 2, 5, 6])
def test_one_to_three_axes(shape, length):
    block = image("uint16", (2, *shape))
    size = tuple(min(length + axis, n) for axis, n in enumerate(shape))
    pixels = windows(block.astype(np.int64), size)
    n, s1, s2 = pixels.shape[-1], pixels.sum(axis=-1), (pixels**2).sum(axis=-1)
    assert_array_equal(box_mean(block, size), (s1 / n).astype(np.float32))
    variance = ((n * s2 - s1 * s1) / (n * n)).astype(np.float32)
    assert_array_equal(box_variance(block, size), variance)
    assert_array_equal(box_max(block, size), pixels.max(axis=-1))
    result, expected = box_variance(block.astype(np.float32), size), two_pass(block, size)
    assert_array_equal(np.abs(result - expected) <= 1e-6 * expected, True)


def test_variances_wider_than_a_tile():
    block = image("uint8", (1, 40, 5000))
    part = np.ascontiguousarray(block[:, 3:38, 1111:4444])
    for size in [(3, 5), (33, 101), (33, 2601)]:
        for one, some in [(block, part), (block.astype(np.float32), part.astype(np.float32))]:
            expected = box_variance(one, size)[:, 3 : 39 - size[0], 1111 : 4445 - size[1]]
            assert_array_equal(box_variance(some, size), expected)


def test_not_a_number_of_either_sign():
    block = image("float32", (1, 9, 40))
    block[0, 4, 7], block[0, 4, 30] = np.nan, -np.float32(np.nan)
    expected = windows(block, (3, 3)).max(axis=-1)
    assert np.isnan(expected).sum() == 18
    assert_array_equal(box_max(block, (3, 3)), expected)
    assert_array_equal(box_min(block, (3, 3)), windows(block, (3, 3)).min(axis=-1))


def test_images_and_windows_larger_than_a_tile():
    block = image("uint8", (1, 40, 5000))
    sums = np.cumsum(np.pad(block[0].astype(np.int64), ((1, 0), (1, 0))), 0).cumsum(1)
    for h, w in [(3, 5), (33, 2601), (40, 5000)]:
        total = sums[h:, w:] - sums[:-h, w:] - sums[h:, :-w] + sums[:-h, :-w]
        assert_array_equal(box_sum(block, (h, w))[0], total)
        assert_array_equal(box_mean(block.astype(np.float32), (h, w))[0], np.float32(total / h / w))
    maxima = np.max(sliding_window_view(block[0], 33, 0), axis=-1)
    assert_array_equal(
        box_max(block, (33, 701))[0], np.max(sliding_window_view(maxima, 701, 1), axis=-1)
    )


@pytest.mark.parametrize("wild", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_wild_pixels_stay_in_their_windows(wild, dtype):
    clean = image(dtype, (1, 24, 40))
    block = clean.copy()
    block[0, 10, 20] = wild
    size = (5, 6)
    hit = windows(block != clean, size).any(axis=-1)
    for kernel, inside in [
        (box_mean, wild),
        (box_sum, wild),
        (box_variance, np.nan),
        (box_max, wild if wild != -np.inf else None),
        (box_min, wild if wild != np.inf else None),
    ]:
        result, before = kernel(block, size), kernel(clean, size)
        assert_array_equal(result[~hit], before[~hit])
        if inside is not None:
            assert_array_equal(result[hit], np.full(hit.sum(), inside, dtype))
    assert_array_equal(box_max(block, size), windows(block, size).max(axis=-1))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_block_has_no_say_in_the_result(data):
    dtype = data.draw(st.sampled_from(["uint16", "float32", "float64"]))
    shape = tuple(data.draw(st.integers(6, 40)) for _ in range(2))
    size = tuple(data.draw(st.integers(1, n)) for n in (6, 6))
    block = image(dtype, (1, *shape), data.draw(st.integers(0, 99)))
    start = [data.draw(st.integers(0, n - w)) for n, w in zip(shape, size, strict=True)]
    stop = [data.draw(st.integers(a + w, n)) for a, w, n in zip(start, size, shape, strict=True)]
    part = np.ascontiguousarray(block[:, start[0] : stop[0], start[1] : stop[1]])
    core = tuple(slice(a, b - w + 1) for a, b, w in zip(start, stop, size, strict=True))
    for kernel in (box_mean, box_variance, box_max, box_min):
        assert_array_equal(kernel(part, size), kernel(block, size)[:, core[0], core[1]])


def test_wide_blocks_have_no_say_in_the_result():
    block = image("float32", (1, 20, 4500))
    for kernel in (box_mean, box_variance):
        whole = kernel(block, (5, 15))
        assert_array_equal(kernel(block[:, 3:, 777:4001], (5, 15)), whole[:, 3:, 777:3987])


def test_volumes_have_no_say_in_the_result():
    block = image("float32", (1, 9, 70, 300))
    for kernel in (box_mean, box_variance):
        whole = kernel(block, (3, 2, 5))
        part = kernel(block[:, 2:8, 5:66, 11:290], (3, 2, 5))
        assert_array_equal(part, whole[:, 2:6, 5:65, 11:286])


@pytest.mark.parametrize("kernel", [box_mean, box_sum, box_variance, box_max, box_min])
def test_empty_cores_and_read_only_input(kernel):
    block = image("uint16", (1, 4, 6))
    assert kernel(block, (5, 3)).shape == (1, 0, 4)
    assert kernel(block[:0], (3, 3)).shape == (0, 2, 4)
    before = block.copy()
    block.flags.writeable = False
    strided = np.asfortranarray(block)
    assert_array_equal(kernel(block, (3, 3)), kernel(strided, (3, 3)))
    assert_array_equal(block, before)


@pytest.mark.parametrize("size", [(3,), (0, 3), (7, 3), (3, 3, 3)])
def test_windows_that_do_not_fit(size):
    with pytest.raises(ValueError, match="window"):
        box_mean(np.zeros((1, 5, 5)), size)
