"""Correlation by Fourier transforms against SciPy in float64, and against sums tap by tap."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view
from numpy.testing import assert_array_equal
from scipy import ndimage, signal

from chunkfilt.kernels import _fft, fourier
from chunkfilt.kernels.fourier import Layout, correlate, fourier_plan, layout

RNG = np.random.default_rng(0)
DTYPES = ["bool", "uint8", "int16", "uint32", "int64", "uint64", "float16", "float32", "float64"]
LENGTHS = sorted(fourier._LENGTHS)


def tiles(length, window, core=None):
    """Tiles of a length, with the largest core or a given one."""
    lengths = (length, length) if isinstance(length, int) else length
    largest = tuple(n - k + 1 for n, k in zip(lengths, window, strict=True))
    return Layout(core or largest, lengths, 0.0, 0)


def image(shape, dtype="float64", seed=0):
    rng = np.random.default_rng(seed)
    kind = np.dtype(dtype)
    if kind.kind in "bf":
        return (rng.normal(size=shape) * 100).astype(kind)
    info = np.iinfo(kind)
    return rng.integers(info.min, info.max, shape, kind, endpoint=True)


def kernel(shape, seed=1):
    return np.random.default_rng(seed).normal(size=shape)


def tap_by_tap(block, weights):
    """The sum over the weights that count, in float64."""
    batch, (ky, kx) = len(block), weights.shape
    total = np.zeros((batch, block.shape[1] - ky + 1, block.shape[2] - kx + 1))
    with np.errstate(all="ignore"):
        for y, x in np.argwhere(np.abs(weights) > 2.2e-16):
            part = block[:, y : y + total.shape[1], x : x + total.shape[2]]
            total += weights[y, x] * part.astype(np.float64)
    return total


def close(result, expected, tolerance=1e-13):
    finite = np.isfinite(expected)
    assert_array_equal(np.isfinite(result), finite)
    assert_array_equal(result[~finite], expected[~finite])
    scale = np.abs(expected[finite]).max(initial=0)
    assert np.abs(result[finite] - expected[finite]).max(initial=0) <= tolerance * scale


@pytest.mark.parametrize("length", [1, 2, 3, 4, 6, 16, 18, 32, 54, *LENGTHS[:8]])
def test_the_transform_is_numpys(length):
    plan = _fft.transform(length)
    values = RNG.normal(size=(length, 40)) + 1j * RNG.normal(size=(length, 40))
    re, im = values.real.copy(), values.imag.copy()
    _fft.forward(re, im, plan)
    expected = np.fft.fft(values, axis=0)
    assert np.abs((re + 1j * im)[plan.row] - expected).max() < 1e-14 * np.abs(expected).max()
    # With the parts in each other's place it goes back.
    back, other = expected.real.copy(), expected.imag.copy()
    _fft.forward(other, back, plan)
    assert np.abs((back + 1j * other)[plan.row] / length - values).max() < 1e-13


def test_lengths_with_other_factors_are_refused():
    with pytest.raises(ValueError, match="a product of twos and threes, not 10"):
        _fft.transform(10)


@pytest.mark.parametrize("length", LENGTHS[:8])
@pytest.mark.parametrize("window", [(1, 1), (4, 7), (5, 5), (12, 3)])
def test_tiles_of_every_length(length, window):
    block = image((1, 2 * length + 9, length + 40))
    weights = kernel(window)
    plan = fourier_plan([weights], tiles(length, window))
    result = correlate(block, plan)[:, 0]
    close(result, signal.correlate(block, weights[None], "valid", method="direct"))


@pytest.mark.parametrize("lengths", [(864, 48), (48, 1296)])
def test_long_tiles_that_are_not_square(lengths):
    block = image((1, 700 if lengths[0] > 48 else 90, 1000))
    weights = kernel((3, 21))
    close(
        correlate(block, fourier_plan([weights], tiles(lengths, (3, 21))))[:, 0],
        signal.correlate(block, weights[None], "valid", method="fft"),
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype(dtype):
    block = image((2, 70, 90), dtype)
    block.flags.writeable = False
    before = block.copy()
    result = correlate(block, fourier_plan([kernel((6, 9))], tiles(64, (6, 9))))
    wide = np.dtype(dtype).name in ("uint32", "int64", "uint64", "float64")
    assert result.dtype == (np.float64 if wide else np.float32)
    close(result[:, 0], tap_by_tap(block, kernel((6, 9))), 1e-12 if wide else 1e-7)
    assert_array_equal(block, before)


def test_is_the_convolution_of_scipy():
    picture, weights = image((120, 130)), kernel((9, 15))
    padded = np.pad(picture, ((4, 4), (7, 7)), "symmetric")[None]
    result = correlate(padded, fourier_plan([weights[::-1, ::-1]]))[0, 0]
    close(result, ndimage.convolve(picture, weights, mode="reflect"))


def test_several_kernels_share_a_transform():
    block = image((2, 80, 100), "float32")
    kernels = [kernel((7, 5), seed) for seed in range(4)]
    plan = pickle.loads(pickle.dumps(fourier_plan(kernels, tiles(64, (7, 5)))))
    expected = np.stack([tap_by_tap(block, weights) for weights in kernels], axis=1)
    close(correlate(block, plan), expected, 1e-7)
    out = correlate(block, plan, 2)
    close(out[:, 0], np.hypot(expected[:, 0], expected[:, 1]), 1e-7)
    close(out[:, 1], np.hypot(expected[:, 2], expected[:, 3]), 1e-7)


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(st.integers(1, 12), st.integers(1, 12)),
    st.sampled_from([18, 24, 32, 48]),
    st.tuples(st.integers(1, 7), st.integers(1, 7)),
    st.tuples(st.integers(1, 60), st.integers(1, 60)),
    st.sampled_from(["uint8", "float32"]),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_a_block_of_whole_tiles_has_no_say(window, length, core, shape, dtype, wild, random):
    weights = [kernel(window, 3), kernel(window, 4)]
    plan = fourier_plan(weights, tiles(length, window, core))
    block = image((1, *(n + k - 1 for n, k in zip(shape, window, strict=True))), dtype)
    if wild and dtype == "float32":
        places = [random.randrange(block.size) for _ in range(4)]
        block.flat[places] = [np.nan, np.inf, -np.inf, 1e30]
    whole = correlate(block, plan, 2)[0, 0]
    pieces = np.empty_like(whole)
    strips = []
    for n, c in zip(shape, core, strict=True):
        cuts = {0, n, *(random.randrange(0, n, c) for _ in range(2))}
        strips.append(list(zip(sorted(cuts), sorted(cuts)[1:], strict=False)))
    for y0, y1 in strips[0]:
        for x0, x1 in strips[1]:
            part = block[:, y0 : y1 + window[0] - 1, x0 : x1 + window[1] - 1]
            pieces[y0:y1, x0:x1] = correlate(part, plan, 2)[0, 0]
    assert_array_equal(pieces, whole)
    expected = np.hypot(*(tap_by_tap(block, one) for one in weights))[0]
    usual = np.abs(expected) < 1e20
    assert_array_equal(np.isfinite(whole), np.isfinite(expected))
    close(whole[usual], expected[usual], 1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_wild_pixels_reach_the_windows_that_hold_them(seed):
    rng = np.random.default_rng(seed)
    weights = kernel((7, 9))
    weights[2] = weights[:, 4] = 0.0
    weights[5, 5] = 1e-17
    block = image((2, 90, 100), "float64", seed)
    wild = rng.choice(block.size, 12, replace=False)
    block.flat[wild] = rng.choice([np.nan, np.inf, -np.inf], 12)
    block[1, :4, :4] = np.inf
    result = correlate(block, fourier_plan([weights], tiles(48, weights.shape)))[:, 0]
    close(result, tap_by_tap(block, weights))


@pytest.mark.parametrize("value", [3e38, -1e300, 1e306, 5e-324])
def test_pixels_of_very_different_size(value):
    weights = kernel((7, 9))
    block = image((1, 90, 100))
    clean = tap_by_tap(block, weights)
    block[0, 20:23, 30] = block[0, 70, 80] = value
    result = correlate(block, fourier_plan([weights], tiles(96, weights.shape)))[:, 0]
    held = sliding_window_view(block == value, weights.shape, (1, 2)).any(axis=(-2, -1))
    close(result[~held], clean[~held])
    close(result[held], tap_by_tap(block, weights)[held])


def test_sizes_beyond_what_a_transform_holds():
    weights, block = kernel((5, 5)), image((1, 60, 60))
    plan = fourier_plan([weights], tiles(48, (5, 5)))
    usual = correlate(block, plan)
    for power in (-1000, -400, 400, 1000):
        scaled = correlate(np.ldexp(block, power), plan)
        close(np.ldexp(scaled, -power), usual)
    # Every size at once.
    sizes = RNG.integers(-900, 900, block.shape)
    assert np.isfinite(correlate(np.ldexp(block, sizes), plan)).all()
    assert_array_equal(correlate(np.zeros_like(block), plan), 0)


def test_the_largest_pixels_of_64_bits_drown_no_small_ones():
    weights, block = kernel((5, 5)), np.ones((1, 40, 40), np.uint64)
    block[0, 30, 30] = 2**64 - 1
    result = correlate(block, fourier_plan([weights]))[0, 0]
    np.testing.assert_allclose(result[:20, :20], weights.sum(), rtol=1e-12)


def test_empty_cores_and_batches():
    plan = fourier_plan([np.ones((3, 4))])
    assert correlate(np.zeros((2, 2, 9)), plan).shape == (2, 1, 0, 6)
    assert correlate(np.zeros((0, 9, 9)), plan).shape == (0, 1, 7, 6)


def test_layouts():
    for window in [(1, 1), (5, 40), (37, 37), (300, 20), (1001, 1001)]:
        for count in (1, 2, 9):
            chosen = layout(window, count)
            assert chosen == layout(window, count)
            ends = zip(chosen.core, window, chosen.length, strict=True)
            assert all(c + k - 1 <= n for c, k, n in ends)
            assert chosen.memory > 0
        # A further kernel costs less than the first.
        assert layout(window, 9).cost < 9 * layout(window).cost
    with pytest.raises(ValueError, match="too large for tiles of 1728"):
        layout((2600, 5))


def test_what_makes_no_plan_is_refused():
    for bad in ([np.ones(3)], [np.array([[np.nan]])]):
        with pytest.raises(ValueError, match="2-D kernels of finite weights"):
            fourier_plan(bad)
    with pytest.raises(ValueError, match="tiles of"):
        fourier_plan([np.ones((9, 9))], Layout((60, 60), (64, 64), 0.0, 0))
    with pytest.raises(ValueError, match="do not make up results of 2 parts"):
        correlate(np.zeros((1, 9, 9)), fourier_plan([np.ones((3, 3))]), 2)
    with pytest.raises(ValueError, match="a window of"):
        correlate(np.zeros((1, 2, 9)), fourier_plan([np.ones((4, 4))]))
