"""Slopes and bends against scipy.ndimage, scikit-image and numpy on float64."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from scipy import ndimage
from skimage import filters as skimage_filters

import chunkfilt as cf
from chunkfilt.engine.bind import bind
from chunkfilt.engine.evaluate import evaluate_region
from chunkfilt.engine.graph import Source
from chunkfilt.errors import ParameterError
from chunkfilt.grid import ImageSpec, Region

MODES = ["reflect", "mirror", "nearest", "constant", "wrap"]
SCIPY = {"constant": "grid-constant", "wrap": "grid-wrap"}
SHAPES = [(40,), (21, 34), (9, 11, 35)]
DTYPES = ["bool", "uint8", "int16", "float16", "float32", "int32", "uint64", "float64"]
ONE_AXIS = ["sobel", "prewitt"]
GAUSSIANS = ["gaussian_laplace", "gaussian_gradient_magnitude"]


def noise(shape, dtype="float64"):
    pixels = np.random.default_rng(3).random(shape) * 200
    return pixels > 100 if dtype == "bool" else pixels.astype(dtype)


def close(result, expected, tolerance=1e-6):
    assert_array_equal(np.isnan(result), np.isnan(expected))
    scale = max(np.abs(np.nan_to_num(expected)).max(initial=0), 1e-30)
    np.testing.assert_allclose(result, expected, rtol=0, atol=tolerance * scale)


def scipys(name, image, mode="reflect", **options):
    function = getattr(ndimage, name)
    return function(image.astype(np.float64), mode=SCIPY.get(mode, mode), **options)


def skimages(name, image, mode="reflect", cval=0.0, **options):
    """Scikit-image's name for zeros beyond the edge is scipy's, of which `wrap` is no other."""
    function = getattr(skimage_filters, name)
    return function(image.astype(np.float64), mode=SCIPY.get(mode, mode), cval=cval, **options)


@pytest.mark.parametrize("cval", [0.0, 7.0])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", SHAPES, ids=len)
@pytest.mark.parametrize("name", ONE_AXIS)
def test_slopes_along_an_axis(name, shape, mode, cval):
    image = noise(shape)
    for axis in range(-len(shape), len(shape)):
        result = getattr(cf, name)(image, axis=axis, mode=mode, cval=cval)
        close(result, scipys(name, image, mode, axis=axis, cval=cval), 1e-12)
    close(getattr(cf, name)(image), scipys(name, image), 1e-12)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", SHAPES, ids=len)
def test_scharr(shape, mode):
    image = noise(shape)
    for axis in (None, *range(len(shape))):
        result = cf.scharr(image, axis=axis, mode=mode, cval=3.0)
        close(result, skimages("scharr", image, mode, 3.0, axis=axis), 1e-12)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", SHAPES, ids=len)
def test_laplace(shape, mode):
    image = noise(shape)
    close(cf.laplace(image, mode=mode, cval=3.0), scipys("laplace", image, mode, cval=3.0), 1e-12)


@pytest.mark.parametrize("cval", [0.0, 7.0])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", SHAPES, ids=len)
@pytest.mark.parametrize("name", GAUSSIANS)
def test_derivatives_of_gaussians(name, shape, mode, cval):
    image = noise(shape)
    for sigma in (0.1, 0.8, (1.5, 0.6, 2.3)[: len(shape)]):
        result = getattr(cf, name)(image, sigma=sigma, mode=mode, cval=cval)
        close(result, scipys(name, image, mode, sigma=sigma, cval=cval), 1e-12)
    result = getattr(cf, name)(image, sigma=1.3, truncate=2.0, mode=mode)
    close(result, scipys(name, image, mode, sigma=1.3, truncate=2.0), 1e-12)


@pytest.mark.parametrize("mode", ["reflect", "mirror", "nearest", "constant", "wrap"])
@pytest.mark.parametrize("shape", SHAPES, ids=len)
def test_difference_of_gaussians(shape, mode):
    image = noise(shape)
    for low, high in [(1.0, None), (0.0, 0.7), ((0.5, 1.2, 0.0)[: len(shape)], 1.5)]:
        result = cf.difference_of_gaussians(image, low_sigma=low, high_sigma=high, mode=mode)
        # scikit-image hands its modes on to the Gaussian, and it to scipy.
        known = SCIPY.get(mode, mode)
        wide = tuple(np.multiply(low, 1.6)) if np.ndim(low) and high is None else high
        narrow = ndimage.gaussian_filter(image, low, mode=known)
        expected = narrow - ndimage.gaussian_filter(
            image, wide or np.multiply(low, 1.6), mode=known
        )
        close(result, expected, 1e-12)
    close(
        cf.difference_of_gaussians(image, low_sigma=1, truncate=3),
        skimage_filters.difference_of_gaussians(image, 1, truncate=3),
        1e-12,
    )


@pytest.mark.parametrize("shape", SHAPES, ids=len)
def test_unsharp_mask(shape):
    image = noise(shape)
    for radius, amount in [(1.0, 1.0), (0.0, 2.0), (2.3, -0.7), (0.4, 0.0)]:
        expected = skimage_filters.unsharp_mask(image, radius, amount, preserve_range=True)
        close(cf.unsharp_mask(image, radius=radius, amount=amount), expected, 1e-12)
    close(
        cf.unsharp_mask(image, mode="wrap"),
        2 * image - ndimage.gaussian_filter(image, 1, mode="grid-wrap"),
        1e-12,
    )


def gradients(image, spacing=1.0):
    steps = np.broadcast_to(spacing, image.ndim)
    found = np.gradient(image.astype(np.float64), *steps)
    return np.stack([found] if image.ndim == 1 else found)


def hessians(image, spacing=1.0):
    steps = np.broadcast_to(spacing, image.ndim)
    slopes = gradients(image, spacing)
    pairs = itertools.combinations_with_replacement(range(image.ndim), 2)
    return np.stack([np.gradient(slopes[i], steps[j], axis=j) for i, j in pairs])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(2, 9), min_size=1, max_size=3), st.sampled_from([1.0, 0.3, 7.0]))
def test_gradient_and_hessian(shape, spacing):
    image = noise(shape)
    close(cf.gradient(image, spacing=spacing), gradients(image, spacing), 1e-12)
    close(cf.hessian(image, spacing=spacing), hessians(image, spacing), 1e-12)


def test_a_spacing_for_each_axis():
    image = noise((7, 9, 40))
    close(cf.gradient(image, spacing=(1, 2, 0.5)), gradients(image, (1, 2, 0.5)), 1e-12)
    close(cf.hessian(image, spacing=(1, 2, 0.5)), hessians(image, (1, 2, 0.5)), 1e-12)
    assert "mode" not in cf.gradient.filter.model.model_fields


@pytest.mark.parametrize("name", ["gradient", "hessian"])
def test_a_single_pixel_has_no_slope(name):
    with pytest.raises(ParameterError, match="needs 2 pixels, got 5 x 1"):
        getattr(cf, name)(noise((5, 1)))
    assert getattr(cf, name)(noise((5, 1)), axes=0).shape == (1, 5, 1)
    assert getattr(cf, name)(noise((0, 5))).size == 0


def test_batch_axes():
    stack = noise((3, 12, 13))
    for name in [*ONE_AXIS, *GAUSSIANS, "laplace"]:
        result = getattr(cf, name)(stack, axes=(1, 2))
        for one, image in zip(result, stack, strict=True):
            close(one, scipys(name, image, **({"sigma": 1.0} if name in GAUSSIANS else {})))
    result = cf.gradient(stack, axes=(1, 2))
    assert result.shape == (3, 2, 12, 13)
    for one, image in zip(result, stack, strict=True):
        close(one, gradients(image))


EVERY = {
    "sobel": lambda x: scipys("sobel", x),
    "prewitt": lambda x: scipys("prewitt", x),
    "scharr": lambda x: skimages("scharr", x),
    "laplace": lambda x: scipys("laplace", x),
    "gaussian_laplace": lambda x: scipys("gaussian_laplace", x, sigma=1.0),
    "gaussian_gradient_magnitude": lambda x: scipys("gaussian_gradient_magnitude", x, sigma=1.0),
    "difference_of_gaussians": lambda x: skimage_filters.difference_of_gaussians(
        x.astype(np.float64), 1.0
    ),
    "unsharp_mask": lambda x: skimage_filters.unsharp_mask(
        x.astype(np.float64), preserve_range=True
    ),
    "gradient": gradients,
    "hessian": hessians,
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", EVERY)
def test_every_dtype(name, dtype):
    image = noise((11, 40), dtype)
    result = getattr(cf, name)(image)
    wide = dtype in ("int32", "uint64", "float64")
    assert result.dtype == (np.float64 if wide else np.float32)
    close(result, EVERY[name](image))


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_nan_reaches_the_outputs_that_weigh_it(name, bad):
    image = noise((25, 40))
    clean = getattr(cf, name)(image)
    image[12, 20] = bad
    result = getattr(cf, name)(image)
    alone = np.zeros(image.shape)
    alone[12, 20] = 1.0
    weighed = EVERY[name](alone) != 0
    assert_array_equal(~np.isfinite(result), weighed)
    assert np.isnan(result[weighed]).all() or np.isinf(bad)
    assert_array_equal(result[~weighed], clean[~weighed])


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("sobel", {"axis": 0, "mode": "constant", "cval": 9.0}),
        ("scharr", {}),
        ("gaussian_laplace", {"sigma": 2.0, "mode": "constant", "cval": 9.0}),
        ("gaussian_gradient_magnitude", {"sigma": 1.5, "mode": "constant", "cval": 9.0}),
        ("gaussian_gradient_magnitude", {"sigma": 1.5}),
        ("difference_of_gaussians", {"low_sigma": 1.5}),
        ("unsharp_mask", {"radius": 1.5}),
        ("gradient", {}),
        ("hessian", {}),
    ],
)
def test_a_block_has_no_say(name, params):
    pixels = noise((30, 90), "float32")
    pixels[5, 5] = np.nan
    reader = type("Memory", (), {"read": lambda self, region: pixels[region.slices]})()
    source = Source(ImageSpec(pixels.shape, pixels.dtype, ("y", "x"), (0, 1)), reader)
    node = bind(getattr(cf, name).filter, [source], params)
    lead = node.spec.shape[:-2]
    whole = evaluate_region(node, Region.whole(node.spec.shape))
    assert_array_equal(whole, getattr(cf, name)(pixels, **params))
    for start, stop in [
        ((0, 0), (1, 1)),
        ((3, 2), (9, 85)),
        ((28, 40), (30, 90)),
        ((0, 1), (2, 33)),
    ]:
        region = Region((0,) * len(lead) + start, lead + stop)
        assert_array_equal(evaluate_region(node, region), whole[region.slices])


def test_ramps_and_constants():
    ramp = np.tile(np.arange(50.0), (9, 1))
    assert_array_equal(cf.sobel(ramp)[:, 1:-1], np.full((9, 48), 8.0))
    assert_array_equal(cf.prewitt(ramp, axis=0), np.zeros(ramp.shape))
    assert_array_equal(cf.laplace(ramp)[:, 1:-1], np.zeros((9, 48)))
    assert_array_equal(cf.gradient(ramp)[1], np.ones(ramp.shape))
    assert_array_equal(cf.hessian(ramp), np.zeros((3, *ramp.shape)))
    np.testing.assert_allclose(cf.unsharp_mask(np.full((9, 40), 7.0), radius=3), 7.0, rtol=1e-13)


@pytest.mark.parametrize(
    ("name", "params", "problem"),
    [
        ("sobel", {"axis": 2}, "axis must be -2 to 1"),
        ("scharr", {"axis": -3}, "axis must be -2 to 1"),
        ("gaussian_laplace", {"sigma": 0}, "sigma must be > 0"),
        ("gaussian_gradient_magnitude", {"sigma": (1, 2, 3)}, "one value or 2"),
        ("gaussian_laplace", {"sigma": 1e9}, "would reach"),
        ("difference_of_gaussians", {"low_sigma": 3, "high_sigma": 2}, "high_sigma must be >="),
        ("unsharp_mask", {"amount": np.inf}, "amount must be a finite number"),
        ("unsharp_mask", {"radius": -1}, "radius must be >= 0"),
        ("gradient", {"spacing": 0}, "spacing must be > 0"),
        ("hessian", {"mode": "wrap"}, "has no parameter 'mode'"),
    ],
)
def test_mistakes(name, params, problem):
    with pytest.raises(ParameterError, match=problem):
        getattr(cf, name)(noise((9, 9)), **params)
