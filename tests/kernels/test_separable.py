"""Separable and Gabor correlation against scipy and scikit-image."""

import pickle

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from numpy.testing import assert_array_equal
from scipy import ndimage
from skimage.filters import gabor as skimage_gabor
from skimage.filters import gabor_kernel

from chunkfilt.kernels.separable import (
    Plan,
    convolve_plan,
    correlate_plan,
    decompose,
    gabor,
    magnitude,
    separable,
    working_memory,
)

RNG = np.random.default_rng(0)
DTYPES = ["bool", "uint8", "uint16", "int16", "float16", "float32", "int32", "uint64", "float64"]


def gaussian(sigma, radius):
    x = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (x / sigma) ** 2)
    return weights / weights.sum()


def image(dtype, shape, seed=0):
    rng = np.random.default_rng(seed)
    kind = np.dtype(dtype)
    if kind.kind in "bf":
        return (rng.normal(size=shape) * 100).astype(kind)
    info = np.iinfo(kind)
    return rng.integers(info.min, info.max, shape, kind, endpoint=True)


def passes(block, term):
    """Consecutive 1-D passes of scipy on the block, cropped to the core."""
    result = block.astype(np.float64)
    for axis, weights in enumerate(term, 1):
        result = ndimage.correlate1d(result, weights, axis)
        start = weights.size // 2
        stop = result.shape[axis] - (weights.size - 1 - start)
        result = result.take(np.arange(start, stop), axis)
    return result


def close(result, expected, tolerance=1e-6):
    finite = np.isfinite(expected)
    assert_array_equal(np.isfinite(result), finite)
    assert_array_equal(result[~finite], expected[~finite])
    error = np.abs(result[finite] - expected[finite])
    assert (error <= tolerance * np.abs(expected[finite]).max(initial=0)).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_gaussian_of_every_dtype(dtype):
    block = image(dtype, (2, 25, 60))
    term = (gaussian(2, 8), gaussian(1.3, 5))
    result = separable(block, (term,))
    wide = np.dtype(dtype).name in ("int32", "uint64", "float64")
    assert result.dtype == (np.float64 if wide else np.float32)
    close(result, passes(block, term))
    assert separable(block, (term,), np.float64).dtype == np.float64


@pytest.mark.parametrize("shape", [(50,), (20, 50), (12, 14, 33)])
@pytest.mark.parametrize("lengths", [(1, 3, 4), (8, 5, 2), (12, 13, 17)])
def test_axes_and_lengths(shape, lengths):
    block = image("float32", (2, *shape))
    term = tuple(RNG.normal(size=n) for n in lengths[-len(shape) :])
    close(separable(block, (term,)), passes(block, term))
    other = tuple(RNG.normal(size=n) for n in lengths[-len(shape) :])
    close(separable(block, (term, other)), passes(block, term) + passes(block, other))


def in_order(block, term):
    """Sums of two passes, x first, one weight after the other."""
    wy, wx = term
    width, height = block.shape[2] - wx.size + 1, block.shape[1] - wy.size + 1
    across = np.zeros((len(block), block.shape[1], width))
    for i in np.flatnonzero(wx):
        across += wx[i] * block[:, :, i : i + width].astype(np.float64)
    total = np.zeros((len(block), height, width))
    for j in np.flatnonzero(wy):
        total += wy[j] * across[:, j : j + height]
    return total


@pytest.mark.parametrize("core", [(1, 1), (2, 31), (7, 33), (19, 300)])
@pytest.mark.parametrize("length", [1, 7, 8, 9, 15, 16, 23, 24, 41])
def test_every_sum_is_made_in_the_order_of_the_weights(core, length):
    term = [RNG.normal(size=length), RNG.normal(size=length)]
    block = image("float32", (2, core[0] + length - 1, core[1] + length - 1))
    assert_array_equal(separable(block, (term,), np.float64), in_order(block, term))
    term[0][length // 3], term[1][length // 2] = 0.0, 0.0
    assert_array_equal(separable(block, (term,), np.float64), in_order(block, term))


def test_kernels_larger_than_a_tile():
    block = image("uint16", (1, 310, 2600))
    term = (gaussian(60, 150), gaussian(300, 1200))
    close(separable(block, (term,)), passes(block, term))


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_a_block_has_no_say_in_the_result(dtype):
    block = image(dtype, (1, 60, 4500))
    terms = ((gaussian(2, 8), gaussian(2, 8)), (RNG.normal(size=17), RNG.normal(size=17)))
    for used in (terms[:1], terms):
        whole = separable(block, used)
        for y0, y1, x0, x1 in [(3, 57, 777, 4001), (0, 17, 5, 40), (40, 60, 4000, 4500)]:
            part = separable(block[:, y0:y1, x0:x1], used)
            assert_array_equal(part, whole[:, y0 : y1 - 16, x0 : x1 - 16])
    volume = block.reshape(1, 20, 100, 135)
    term = (gaussian(1, 3), gaussian(1, 2), gaussian(1, 4))
    part = separable(volume[:, 5:18, 7:90, 13:120], (term,))
    assert_array_equal(part, separable(volume, (term,))[:, 5:12, 7:86, 13:112])


def test_one_term_treats_wild_pixels_as_the_passes_do():
    block = image("float64", (1, 40, 60))
    block[0, 5, 7], block[0, 30, 30], block[0, 33, 28] = np.nan, np.inf, -np.inf
    for term in [(gaussian(1, 3), gaussian(1, 4)), (RNG.normal(size=5), RNG.normal(size=8))]:
        expected = passes(block, term)
        result = separable(block, (term,))
        close(result, expected)


def test_weights_that_are_none_let_nothing_through():
    clean = image("float64", (1, 20, 20))
    block = clean.copy()
    block[0, 9, 9] = np.nan
    term = (np.array([1.0, 2.0, 1.0]), np.array([-1.0, 1e-17, 1.0]))
    cells = np.array([[1, 0, 1]] * 3, bool)
    hit = sliding_window_view(block != clean, (3, 3), (1, 2))[..., cells].any(axis=-1)
    result = separable(block, (term,))
    assert_array_equal(np.isnan(result), hit)
    assert_array_equal(result[~hit], separable(clean, (term,))[~hit])


@pytest.mark.parametrize("seed", range(4))
def test_wild_pixels_under_several_terms(seed):
    rng = np.random.default_rng(seed)
    dense = rng.normal(size=(7, 2)) @ rng.normal(size=(2, 9))
    dense[2] = dense[:, 4] = 0.0
    plan = convolve_plan(dense)
    assert len(plan.terms) == 2
    block = image("float32", (1, 40, 90), seed)
    wild = rng.choice(block.size, 9, replace=False)
    block.flat[wild] = rng.choice([np.nan, np.inf, -np.inf], 9)
    expected = np.zeros((1, 34, 82))
    for y, x in np.argwhere(np.abs(dense) > 2.2e-16):
        with np.errstate(invalid="ignore"):
            expected += dense[y, x] * block[:, y : y + 34, x : x + 82].astype(np.float64)
    for result in (correlate_plan(block, plan), separable(block, plan.terms, dense=dense)):
        close(result, expected)
    whole = correlate_plan(block, plan)
    for y0, y1, x0, x1 in [(0, 7, 0, 9), (3, 20, 5, 70), (20, 40, 31, 90), (17, 30, 2, 33)]:
        part = correlate_plan(block[:, y0:y1, x0:x1], plan)
        assert_array_equal(part, whole[:, y0 : y1 - 6, x0 : x1 - 8])


def test_decompose():
    assert len(decompose(np.outer([1, 2, 1], [-1, 0, 1]))) == 1
    assert decompose(np.zeros((3, 4))) == ()
    kernel = RNG.normal(size=(5, 8))
    terms = decompose(kernel)
    assert len(terms) == 5
    assert np.abs(sum(np.outer(y, x) for y, x in terms) - kernel).max() < 1e-13
    for (y, x), (y2, x2) in zip(terms, decompose(kernel.copy()), strict=True):
        assert y[np.argmax(np.abs(y))] > 0
        assert_array_equal(y, y2)
        assert_array_equal(x, x2)
    for bad in (np.ones(3), np.array([[np.nan]])):
        with pytest.raises(ValueError, match="decompose"):
            decompose(bad)


def test_convolve_plan_takes_the_cheaper_way():
    block = image("float32", (1, 20, 30))
    for kernel, count in [
        (np.ones((5, 5)), 1),
        (np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]]), 0),
        (RNG.normal(size=(9, 9)), 0),
        (np.zeros((3, 3)), 0),
    ]:
        plan = pickle.loads(pickle.dumps(convolve_plan(kernel)))
        assert len(plan.terms) == count
        windows = sliding_window_view(block.astype(np.float64), kernel.shape, (1, 2))
        close(correlate_plan(block, plan), np.einsum("byxji,ji->byx", windows, kernel))


@pytest.mark.parametrize("sigma", [(3, 3), (2, 4)])
@pytest.mark.parametrize("degrees", [0, 30, 45, 90, 117])
def test_gabor_is_that_of_scikit_image(sigma, degrees):
    options = {
        "frequency": 0.15,
        "theta": np.deg2rad(degrees),
        "sigma_x": sigma[0],
        "sigma_y": sigma[1],
        "offset": 0.4,
    }
    kernel = gabor_kernel(**options)
    flipped = kernel[::-1, ::-1]
    real, imag = convolve_plan(flipped.real), convolve_plan(flipped.imag)
    if sigma[0] == sigma[1]:
        assert len(real.terms) == len(imag.terms) == (1 if degrees % 90 == 0 else 2)
    picture = image("float64", (50, 70))
    h, w = kernel.shape
    padded = np.pad(picture, ((h // 2, h // 2), (w // 2, w // 2)), "symmetric")[None]
    re, im = skimage_gabor(picture, mode="reflect", **options)
    close(gabor(padded, real, imag, "real")[0], re, 1e-5)
    close(gabor(padded, real, imag, "imag")[0], im, 1e-5)
    close(gabor(padded, real, imag, "magnitude")[0], np.hypot(re, im), 1e-5)


def test_gabor_with_wild_pixels_and_mixed_plans():
    real = convolve_plan(np.outer(gaussian(2, 4), gaussian(2, 4)))
    imag = convolve_plan(np.random.default_rng(5).normal(size=(9, 9)))
    assert len(real.terms) == 1
    assert imag.terms == ()
    clean = image("float32", (1, 30, 60))
    block = clean.copy()
    block[0, 12, 33] = np.nan
    hit = sliding_window_view(block != clean, (9, 9), (1, 2)).any(axis=(-2, -1))
    re, im = (correlate_plan(block, plan, np.float64) for plan in (real, imag))
    assert_array_equal(np.isnan(re), hit)
    result = gabor(block, real, imag, "magnitude")
    assert_array_equal(result[hit], np.full(hit.sum(), np.nan, np.float32))
    assert_array_equal(result[~hit], np.sqrt(re * re + im * im).astype(np.float32)[~hit])
    part = gabor(block[:, 5:24, 11:50], real, imag, "magnitude")
    assert_array_equal(part, result[:, 5:16, 11:42])
    assert gabor(clean.astype(np.uint16), real, imag, "real").dtype == np.float32


def test_empty_cores_and_read_only_input():
    block = image("float32", (1, 9, 12))
    term = (gaussian(1, 2), gaussian(1, 2))
    assert separable(block[:, :4], (term,)).shape == (1, 0, 8)
    before = block.copy()
    block.flags.writeable = False
    assert separable(block, (term,)).shape == (1, 5, 8)
    assert_array_equal(block, before)


@pytest.mark.parametrize(
    "terms", [(), (((1.0,), (1.0,)), ((1.0,), (1.0, 2.0))), ((np.ones((2, 2)), np.ones(4)),)]
)
def test_terms_that_do_not_fit(terms):
    with pytest.raises(ValueError, match="terms"):
        separable(np.zeros((1, 5, 5)), terms)


def test_gabor_refuses_what_it_cannot_do():
    plan, other = convolve_plan(np.ones((3, 3))), convolve_plan(np.ones((3, 5)))
    with pytest.raises(ValueError, match="part"):
        gabor(np.zeros((1, 5, 5)), plan, plan, "phase")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="same shape"):
        gabor(np.zeros((1, 5, 5)), plan, other, "real")


def test_magnitudes_of_up_to_three_kernels():
    block = image("float32", (2, 30, 60))
    terms = [(RNG.normal(size=5), RNG.normal(size=9)) for _ in range(3)]
    plans = [Plan((term,), None) for term in terms]
    wide = [separable(block, (term,), np.float64) for term in terms]
    assert_array_equal(magnitude(block, plans[:1]), wide[0].astype(np.float32))
    two = wide[0] * wide[0] + wide[1] * wide[1]
    assert_array_equal(magnitude(block, plans[:2]), np.sqrt(two).astype(np.float32))
    three = np.sqrt(two + wide[2] * wide[2])
    assert_array_equal(magnitude(block, plans), three.astype(np.float32))
    dense = [Plan((term,), np.outer(*term)) for term in terms]
    block[0, 12, 33] = np.nan
    hit = sliding_window_view(np.isnan(block), (5, 9), (1, 2)).any(axis=(-2, -1))
    for used in (plans, dense):
        result = magnitude(block, used)
        assert_array_equal(np.isnan(result), hit)
        assert_array_equal(result[~hit], three.astype(np.float32)[~hit])


def test_a_magnitude_takes_kernels_of_one_shape():
    plan, other = convolve_plan(np.ones((3, 3))), convolve_plan(np.ones((3, 5)))
    for plans in ([], [plan] * 4, [plan, other]):
        with pytest.raises(ValueError, match="one to three kernels of the same shape"):
            magnitude(np.zeros((1, 5, 5)), plans)


def test_working_memory_grows_with_what_is_held():
    assert working_memory((9, 9), 2) > working_memory((9, 9), 1) > 0
    assert working_memory((9, 9, 9), 1) > working_memory((9, 9), 1)
    assert working_memory((9, 9), 1, 81) > working_memory((9, 9), 1)
