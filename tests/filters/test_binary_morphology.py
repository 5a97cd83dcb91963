"""Binary morphology, against scipy on the whole image."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from scipy import ndimage

import chunkfilt as cf
from chunkfilt.errors import ParameterError

NAMES = ["binary_erosion", "binary_dilation", "binary_opening", "binary_closing"]
CROOKED = np.array([[0, 1, 0, 0], [1, 1, 0, 1], [0, 0, 1, 1]], dtype=bool)


def blobs(shape, seed=0, share=0.5):
    """A mask of spots of some pixels."""
    field = np.random.default_rng(seed).normal(size=shape)
    smooth = ndimage.uniform_filter(field, 3)
    return smooth > np.quantile(smooth, share)


def same_as_scipy(name, image, mask=None, **params):
    result = getattr(cf, name)(image, mask, **params)
    assert result.dtype == bool
    expected = getattr(ndimage, name)(image, mask=mask, brute_force=True, **params)
    assert_array_equal(result, expected)
    # Otherwise scipy 1.18 follows the pixels that change, and in images smaller than the structure
    # it writes where it must not: wrong results, or the end of the process.
    window = np.shape(params.get("structure", np.ones((3,) * image.ndim)))
    if all(n >= w for n, w in zip(image.shape, window, strict=True)):
        expected = getattr(ndimage, name)(image, mask=mask, **params)
        assert_array_equal(result, expected)


@pytest.mark.parametrize("border", [0, 1])
@pytest.mark.parametrize("iterations", [1, 2, 5])
@pytest.mark.parametrize("name", NAMES)
def test_iterations_and_borders_are_scipys(name, iterations, border):
    more = {"iterations": iterations, "border_value": border}
    for shape in ((40,), (25, 30), (7, 9, 11)):
        same_as_scipy(name, blobs(shape), **more)
    mask = np.random.default_rng(4).random((25, 30)) < 0.8
    same_as_scipy(name, blobs((25, 30)), mask, **more)
    same_as_scipy(name, blobs((25, 30), share=0.1), mask.astype("float32"), **more)


@pytest.mark.parametrize("origin", [0, (-1, 1), (1, -2)])
@pytest.mark.parametrize("iterations", [1, 3])
@pytest.mark.parametrize("name", NAMES)
def test_structures_with_an_origin_are_scipys(name, iterations, origin):
    mask = np.random.default_rng(5).random((26, 31)) < 0.8
    for border in (0, 1):
        for held in (None, mask):
            same_as_scipy(
                name,
                blobs((26, 31), share=0.3),
                held,
                structure=CROOKED,
                origin=origin,
                iterations=iterations,
                border_value=border,
            )


STAIRS = np.array([[0, 0, 1, 0], [1, 1, 1, 1], [0, 1, 1, 0]], dtype=bool)


@pytest.mark.parametrize("iterations", [1, 2, 3, 4, 6, 7, 12])
@pytest.mark.parametrize("name", NAMES)
def test_many_iterations_are_scipys(name, iterations):
    """Some structures need fewer steps than iterations, or look beyond the edge in between."""
    images = {1: blobs((50,)), 2: blobs((41, 23)), 3: blobs((17, 15, 20), share=0.7)}
    images = images[1], images[1][:3], images[2], images[2][:3], images[3]
    for image in images:
        chosen = [(None, 0), (np.ones((3,) * image.ndim), 0), (np.ones((2,) * image.ndim), -1)]
        if image.ndim == 2:
            chosen += [(STAIRS, origin) for origin in ((0, 0), (0, -1), (-1, 0), (0, 1))]
        for structure, origin in chosen:
            given = {} if structure is None else {"structure": structure, "origin": origin}
            for border in (0, 1):
                params = {**given, "iterations": iterations, "border_value": border}
                for shown in (image, ~image, ndimage.binary_dilation(image, iterations=9)):
                    same_as_scipy(name, shown, **params)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_mask_is_scipys(data):
    ndim = data.draw(st.integers(1, 3))
    shape = tuple(data.draw(st.integers(1, 14)) for _ in range(ndim))
    window = tuple(data.draw(st.integers(1, 4)) for _ in range(ndim))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**31)))
    structure = rng.random(window) < 0.7
    structure.flat[-1] = True
    image = (rng.random(shape) < rng.random()).astype(data.draw(st.sampled_from(["u1", "f4"])))
    mask = rng.random(shape) < 0.7 if data.draw(st.booleans()) else None
    same_as_scipy(
        data.draw(st.sampled_from(NAMES)),
        image,
        mask,
        structure=structure,
        origin=tuple(data.draw(st.integers(-(n // 2), (n - 1) // 2)) for n in window),
        iterations=data.draw(st.integers(1, 4)),
        border_value=data.draw(st.integers(0, 1)),
    )


def test_large_structures_are_scipys():
    image = blobs((90, 100), share=0.02)
    for structure in (cf.disk(7), np.ones((31, 31), bool), np.ones((1, 65), bool)):
        for name in NAMES:
            same_as_scipy(name, image, structure=structure, border_value=1)
    assert_array_equal(
        cf.binary_erosion(image, structure={"disk": 7}),
        ndimage.binary_erosion(image, cf.disk(7)),
    )


def test_each_plane_of_a_stack_by_itself():
    image = blobs((3, 20, 21))
    for name in NAMES:
        result = getattr(cf, name)(image, axes=(1, 2), iterations=2)
        assert_array_equal(result, getattr(ndimage, name)(image, iterations=2, axes=(1, 2)))


def test_what_is_not_zero_is_set():
    image = np.array([0.0, 0.5, -1.0, np.nan, np.inf, 0.0])
    assert_array_equal(cf.binary_erosion(image), ndimage.binary_erosion(image))
    assert cf.binary_dilation(image, dtype="uint8").dtype == np.uint8


HIT = np.array([[0, 1, 0], [0, 1, 1], [0, 0, 0]], bool)
MISS = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0]], bool)
LINE = np.array([[1, 0, 0, 1, 0]], bool)


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"structure1": HIT},
        {"structure2": MISS, "origin1": (1, -1)},
        {"structure1": HIT, "structure2": MISS},
        {"structure1": HIT, "structure2": MISS, "origin1": 1, "origin2": (-1, 0)},
        {"structure1": np.ones((3, 3), bool)},
        {"structure1": HIT, "structure2": LINE},
        {"structure1": LINE, "structure2": HIT, "origin1": (0, -2), "origin2": 0},
    ],
    ids=lambda params: "-".join(params) or "defaults",
)
def test_hit_or_miss_is_scipys(params):
    image = np.random.default_rng(6).random((40, 41)) < 0.6
    result = cf.binary_hit_or_miss(image, **params)
    assert result.dtype == bool
    assert_array_equal(result, ndimage.binary_hit_or_miss(image, **params))


def test_hit_or_miss_along_a_line():
    line = np.random.default_rng(7).random(50) < 0.5
    assert_array_equal(cf.binary_hit_or_miss(line), ndimage.binary_hit_or_miss(line))


def test_what_is_out_of_range_is_refused():
    image = np.zeros((5, 5), bool)
    for wrong, message in (
        ({"iterations": 0}, "iterations must be >= 1 .*no block could be computed"),
        ({"iterations": -1}, "iterations must be >= 1"),
        ({"iterations": 1.5}, "iterations must be an integer"),
        ({"border_value": 2}, "border_value must be <= 1"),
        ({"structure": np.zeros((3, 3))}, "with at least one 1"),
        ({"structure": [1, 1, 1]}, "structure must have 2 axes"),
        ({"structure": CROOKED, "origin": 2}, "origin must be within -1 and 1"),
        ({"mode": "wrap"}, "has no parameter 'mode'"),
    ):
        for name in NAMES:
            with pytest.raises(ParameterError, match=f"^{name}.*{message}"):
                getattr(cf, name)(image, **wrong)
    assert cf.binary_erosion(image, border_value=True).dtype == bool
