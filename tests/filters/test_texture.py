"""Gabor filters against scikit-image on float64."""

import itertools
import math

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from scipy import signal
from skimage.filters import gabor as skimage_gabor
from skimage.filters import gabor_kernel as skimage_kernel

import chunkfilt as cf
from chunkfilt.engine.bind import bind
from chunkfilt.engine.graph import Source
from chunkfilt.errors import ParameterError
from chunkfilt.grid import ImageSpec

PAD = {
    "reflect": "symmetric",
    "mirror": "reflect",
    "nearest": "edge",
    "constant": "constant",
    "wrap": "wrap",
}
SCIPY = {"constant": "grid-constant", "wrap": "grid-wrap"}
PARTS = {"real": np.real, "imag": np.imag, "magnitude": np.abs}


def noise(shape, dtype="float64"):
    return (np.random.default_rng(8).random(shape) * 200).astype(dtype)


def response(image, mode, **kernel):
    """The complex response: scikit-image's kernel on the padded image."""
    weights = skimage_kernel(**kernel)
    halo = [(n // 2, n // 2) for n in weights.shape]
    padded = np.pad(image.astype(np.float64), halo, PAD[mode])
    return signal.convolve2d(padded, weights, mode="valid")


def close(result, expected, scale=None):
    scale = np.abs(expected).max() if scale is None else scale
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-5 * max(scale, 1e-30))


@pytest.mark.parametrize("mode", sorted(PAD))
@pytest.mark.parametrize("theta", [0.0, 0.5, math.pi / 4, math.pi / 2, -2.0])
def test_is_scikit_images(mode, theta):
    image = noise((60, 64))
    real, imag = skimage_gabor(image, 0.3, theta=theta, mode=SCIPY.get(mode, mode), cval=0)
    options = {"frequency": 0.3, "theta": theta, "mode": mode}
    close(cf.gabor(image, **options), real)
    close(cf.gabor(image, part="imag", **options), imag)
    close(cf.gabor(image, part="magnitude", **options), np.hypot(real, imag))


@settings(max_examples=30, deadline=None)
@given(
    st.tuples(st.integers(1, 12), st.integers(1, 12)),
    st.sampled_from([0.1, 0.25, 0.45]),
    st.floats(-3.2, 3.2),
    st.tuples(st.sampled_from([0.7, 2.0]), st.sampled_from([0.7, 3.0])),
    st.sampled_from([1.0, 2.5]),
    st.sampled_from([0.0, 1.0]),
    st.sampled_from(sorted(PAD)),
    st.sampled_from(sorted(PARTS)),
)
def test_every_parameter_on_small_images(
    shape, frequency, theta, sigmas, n_stds, offset, mode, part
):
    image = noise(shape)
    kernel = {
        "frequency": frequency,
        "theta": theta,
        "sigma_x": sigmas[0],
        "sigma_y": sigmas[1],
        "n_stds": n_stds,
        "offset": offset,
    }
    expected = response(image, mode, **kernel)
    result = cf.gabor(image, mode=mode, part=part, **kernel)
    # One part alone may cancel: its error is small beside what was added up.
    weights = np.abs(skimage_kernel(**kernel)).sum()
    close(result, PARTS[part](expected), max(np.abs(expected).max(), weights * image.max() * 1e-6))


@pytest.mark.parametrize("bandwidth", [0.5, 1.0, 2.0])
def test_bandwidth_sets_the_sigmas(bandwidth):
    image = noise((40, 50))
    expected = response(image, "reflect", frequency=0.3, theta=0.4, bandwidth=bandwidth)
    close(cf.gabor(image, frequency=0.3, theta=0.4, bandwidth=bandwidth), expected.real)


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [("uint8", "float32"), ("uint16", "float32"), ("float32", "float32"), ("float64", "float64")],
)
def test_dtypes(dtype, expected):
    image = noise((30, 31), dtype)
    result = cf.gabor(image, frequency=0.25)
    assert result.dtype == expected
    close(result, response(image, "reflect", frequency=0.25).real)


def test_an_impulse_gives_the_kernel():
    image = np.zeros((41, 41))
    image[20, 20] = 1
    kernel = skimage_kernel(0.3, theta=0.7)
    top, left = (20 - n // 2 for n in kernel.shape)
    result = cf.gabor(image, frequency=0.3, theta=0.7, part="imag")
    inner = result[top : top + kernel.shape[0], left : left + kernel.shape[1]]
    close(inner, kernel.imag)
    outside = result.copy()
    outside[top : top + kernel.shape[0], left : left + kernel.shape[1]] = 0
    assert_array_equal(outside, 0)


def test_stripes_answer_to_their_own_frequency_and_direction():
    wave = np.cos(2 * np.pi * 0.2 * np.arange(80))
    image = np.tile(wave, (80, 1))
    strength = {
        (f, t): cf.gabor(image, frequency=f, theta=t, part="magnitude")[40, 40]
        for f, t in itertools.product((0.1, 0.2, 0.4), (0.0, math.pi / 2))
    }
    assert max(strength, key=strength.get) == (0.2, 0.0)


@pytest.mark.parametrize("part", sorted(PARTS))
def test_a_bank_is_one_gabor_each(part):
    image = noise((33, 35))
    frequencies, thetas = (0.15, 0.4), (0.0, 0.6, 2.0)
    bank = cf.gabor_bank(image, frequencies=frequencies, thetas=thetas, part=part, mode="wrap")
    assert bank.shape == (3, 2, 33, 35)
    for (i, theta), (j, frequency) in itertools.product(enumerate(thetas), enumerate(frequencies)):
        expected = response(image, "wrap", frequency=frequency, theta=theta)
        close(bank[i, j], PARTS[part](expected))
        # Responses that share a transform differ from those that do not in rounding alone.
        alone = cf.gabor(image, frequency=frequency, theta=theta, part=part, mode="wrap")
        np.testing.assert_allclose(bank[i, j], alone, rtol=0, atol=1e-12 * np.abs(image).max())


def test_leading_axes_stand_between_batch_and_space():
    stack = noise((2, 20, 21))
    options = {"frequencies": [0.3, 0.4], "thetas": [0.0, 1.0, 2.0]}
    bank = cf.gabor_bank(stack, axes=(1, 2), **options)
    assert bank.shape == (2, 3, 2, 20, 21)
    for one, plane in zip(bank, stack, strict=True):
        assert_array_equal(one, cf.gabor_bank(plane, **options))


def test_a_nan_reaches_the_window_and_no_further():
    image = noise((40, 41))
    options = {"frequency": 0.4, "theta": 0.3, "sigma_x": 1.0, "sigma_y": 1.5, "n_stds": 2.0}
    clean = cf.gabor(image, **options)
    half_y, half_x = (n // 2 for n in skimage_kernel(**options).shape)
    image[20, 20] = np.nan
    result = cf.gabor(image, **options)
    hit = np.zeros(image.shape, bool)
    hit[20 - half_y : 21 + half_y, 20 - half_x : 21 + half_x] = True
    assert_array_equal(np.isnan(result), hit)
    assert_array_equal(result[~hit], clean[~hit])


def test_constant_images_give_a_constant():
    result = cf.gabor(np.full((20, 21), 5.0), frequency=0.3, part="real")
    kernel = skimage_kernel(0.3)
    np.testing.assert_allclose(result, 5.0 * kernel.real.sum(), rtol=1e-9)


def test_kernels_too_large_are_refused_with_a_way_out():
    with pytest.raises(ParameterError, match="raise frequency or bandwidth, or lower sigma"):
        cf.gabor(noise((10, 10)), frequency=1e-4)
    with pytest.raises(ParameterError, match="the kernel would reach"):
        cf.gabor_bank(noise((10, 10)), frequencies=[0.2, 1e-4])


def test_two_spatial_axes_are_needed():
    with pytest.raises(ParameterError, match="works along 2 spatial axes, got 3"):
        cf.gabor(noise((5, 6, 7)))
    with pytest.raises(ParameterError, match="works along 2 spatial axes, got 1"):
        cf.gabor_bank(noise((50,)))


UNEQUAL = {"frequency": 0.15, "theta": 0.5, "sigma_x": 3.0, "sigma_y": 6.0}


@pytest.mark.parametrize("part", sorted(PARTS))
@pytest.mark.parametrize("mode", sorted(PAD))
def test_kernels_that_do_not_come_apart(mode, part):
    # 3 x 3 tiles of 256 x 174 pixels; the last ones are cut off by the edge.
    image = noise((600, 430), "float64")
    result = cf.gabor(image, part=part, mode=mode, **UNEQUAL)
    expected = PARTS[part](response(image, mode, **UNEQUAL))
    close(result, expected)
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("gabor", {**UNEQUAL, "part": "magnitude"}),
        ("gabor_bank", {"frequencies": (0.1, 0.4), "thetas": (0.0, 0.7), "part": "real"}),
    ],
)
@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_the_same_checksum_for_every_chunking(tmp_path, name, options, dtype):
    image = noise((530, 620), dtype)
    if dtype == "float32":
        image[100, 100], image[400, 333:340] = np.nan, 3e38
    checksums = set()
    for number, chunks in enumerate([(530, 620), (100, 90), (37, 300)]):
        source = tmp_path / f"{number}.zarr"
        zarr.create_array(
            str(source), data=image, chunks=chunks, dimension_names=("y", "x"), fill_value=0
        )
        filtered = getattr(cf, name)(cf.open(source), **options)
        if name == "gabor":
            whole = getattr(cf, name)(image, **options)
            assert_array_equal(filtered[200:300, 111:500], whole[200:300, 111:500])
        result = cf.save(filtered, tmp_path / f"out{number}.zarr", progress=False)
        checksums |= set(result.checksums.values())
    assert len(checksums) == 1


def test_dear_kernels_go_by_tiles_and_cheap_ones_do_not():
    def tiled(name, **options):
        return max(node_of(name, **options).tile) > 1

    def node_of(name, **options):
        spec = ImageSpec((50, 60), np.dtype("uint8"), ("y", "x"), (0, 1))
        return bind(getattr(cf, name).filter, [Source(spec, None)], options)

    assert tiled("gabor", **UNEQUAL)
    assert tiled("gabor_bank")
    assert not tiled("gabor", frequency=0.3)
    assert not tiled("gabor", frequency=0.1, sigma_x=3, sigma_y=6)
    # The first response pays for the transform that the others share.
    assert not tiled("gabor", frequency=0.12)
    same = node_of("gabor_bank", frequencies=(0.05, 0.12), part="real")
    assert max(same.tile) > 1
