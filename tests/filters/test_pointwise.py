"""Arithmetic, limits and casts against NumPy."""

import operator
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_array_equal

import chunkfilt as cf
from chunkfilt.errors import InputError, ParameterError

DTYPES = [
    "bool",
    "uint8",
    "int8",
    "uint16",
    "int32",
    "uint64",
    "int64",
    "float16",
    "float32",
    "float64",
]
OPERATIONS = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "divide": np.true_divide,
}
# NumPy has no difference of two bools.
INTEGERS_AND_FLOATS = DTYPES[1:]


def noise(dtype, shape=(5, 6), seed=0):
    rng = np.random.default_rng(seed)
    kind = np.dtype(dtype)
    if kind.kind == "b":
        return rng.random(shape) < 0.5
    if kind.kind == "f":
        return (rng.normal(size=shape) * 50).astype(kind)
    info = np.iinfo(kind)
    image = rng.integers(info.min, info.max, shape, kind, endpoint=True)
    image.flat[:2] = info.min, info.max
    return image


def same(result, expected):
    assert result.dtype == expected.dtype
    assert_array_equal(result, expected)


@pytest.mark.parametrize("name", sorted(OPERATIONS))
@pytest.mark.parametrize("a", INTEGERS_AND_FLOATS)
@pytest.mark.parametrize("b", ["uint8", "int64", "float32"])
def test_two_images_are_numpys(name, a, b):
    first, second = noise(a), noise(b, seed=1)
    with np.errstate(all="ignore"):
        expected = OPERATIONS[name](first, second)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        same(getattr(cf, name)(first, second), expected)


@pytest.mark.parametrize("name", sorted(OPERATIONS))
@pytest.mark.parametrize("dtype", ["uint8", "int64", "float32"])
@pytest.mark.parametrize("number", [3, 0, 2.5])
def test_a_number_takes_the_place_of_either_image(name, dtype, number):
    image = noise(dtype)
    with np.errstate(all="ignore"):
        same(getattr(cf, name)(image, number), OPERATIONS[name](image, number))
        same(getattr(cf, name)(number, image), OPERATIONS[name](number, image))


def test_numpys_numbers_too():
    image = noise("float64")
    same(cf.add(image, np.float64(2.5)), image + 2.5)
    same(cf.subtract(np.int64(3), image), 3 - image)


def test_a_wider_dtype_is_computed_in_and_not_only_cast_to():
    first, second = np.array([0, 255, 3], np.uint8), np.array([255, 255, 2], np.uint8)
    same(cf.subtract(first, second, dtype="int16"), np.array([-255, 0, 1], np.int16))
    same(cf.add(first, second, dtype="uint16"), np.array([255, 510, 5], np.uint16))
    same(cf.multiply(first, second, dtype="int32"), np.array([0, 65025, 6], np.int32))
    same(cf.subtract(first, second, dtype="float32"), np.array([-255, 0, 1], np.float32))


def test_without_one_unsigned_integers_wrap():
    same(cf.subtract(np.array([0], np.uint8), np.array([1], np.uint8)), np.array([255], np.uint8))


def test_a_narrower_dtype_saturates_what_numpys_dtype_holds():
    same(cf.add(np.array([300, -5]), 0, dtype="uint8"), np.array([255, 0], np.uint8))


def test_a_division_by_zero_is_quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = cf.divide(np.array([1.0, 0.0, -1.0]), np.zeros(3))
    assert_array_equal(result, [np.inf, np.nan, -np.inf])


def test_shapes_that_differ_are_refused_not_broadcast():
    with pytest.raises(InputError, match="must have the shape of the first image"):
        cf.add(np.zeros((3, 4)), np.zeros((1, 4)))


def test_a_missing_or_third_operand_is_refused():
    with pytest.raises(InputError, match="takes image and other"):
        cf.add(np.zeros(3))
    with pytest.raises(InputError):
        cf.add(np.zeros(3), 1, 2)
    with pytest.raises(InputError):
        cf.add(1, 2)


@pytest.mark.parametrize("dtype", DTYPES)
def test_abs_is_numpys(dtype):
    image = noise(dtype)
    same(cf.abs(image), np.abs(image))


def test_the_most_negative_integer_has_no_absolute_value():
    assert cf.abs(np.array([-128], np.int8))[0] == -128


@settings(max_examples=80, deadline=None)
@given(
    hnp.arrays(st.sampled_from(["int8", "uint8", "int64", "uint64", "float32", "float64"]), 7),
    st.floats(-1e20, 1e20) | st.floats(-300, 300) | st.none(),
    st.floats(-1e20, 1e20) | st.floats(-300, 300) | st.none(),
)
def test_clip_keeps_every_pixel_in_exact_arithmetic(image, low, high):
    if (low is None and high is None) or (None not in (low, high) and low > high):
        return
    result = cf.clip(image, min=low, max=high)
    assert result.dtype == image.dtype
    if image.dtype.kind == "f":
        ends = [None if v is None else image.dtype.type(v) for v in (low, high)]
        assert_array_equal(result, np.clip(image, *ends))
        return
    info = np.iinfo(image.dtype)
    for was, now in zip(image.tolist(), result.tolist(), strict=True):
        first = info.min if low is None else min(max(int(np.ceil(low)), info.min), info.max)
        last = info.max if high is None else min(max(int(np.floor(high)), info.min), info.max)
        assert now == min(max(was, first), last)


def test_clip_keeps_nan_and_takes_infinite_limits():
    image = np.array([np.nan, -np.inf, 2.0, np.inf])
    assert_array_equal(cf.clip(image, min=0.0, max=1.0), [np.nan, 0, 1, 1])
    whole = np.array([-5, 0, 7])
    assert_array_equal(cf.clip(whole, min=-np.inf, max=np.inf), whole)
    assert_array_equal(cf.clip(np.array([True, False]), max=0.0), [False, False])


def test_clip_needs_limits_in_order():
    with pytest.raises(ParameterError, match="needs min or max"):
        cf.clip(np.zeros(3))
    with pytest.raises(ParameterError, match=r"min must be <= max, got min=2\.0, max=1\.0"):
        cf.clip(np.zeros(3), min=2, max=1)
    with pytest.raises(ParameterError):
        cf.clip(np.zeros(3), min=float("nan"))


@pytest.mark.parametrize("held", DTYPES)
@pytest.mark.parametrize("wanted", ["uint8", "int16", "int64", "uint64", "float32", "bool"])
def test_cast_saturates_and_rounds_half_to_even(held, wanted):
    image = noise(held)
    result = cf.cast(image, dtype=wanted)
    assert result.dtype == wanted
    kind = np.dtype(wanted)
    if kind.kind not in "iu":
        assert_array_equal(result, image.astype(wanted))
        return
    info = np.iinfo(kind)
    for was, now in zip(image.ravel().tolist(), result.ravel().tolist(), strict=True):
        assert now == min(max(round(was), info.min), info.max)


def test_cast_of_what_is_no_number():
    image = np.array([np.nan, np.inf, -np.inf])
    assert_array_equal(cf.cast(image, dtype="uint8"), [0, 255, 0])
    assert_array_equal(cf.cast(image, dtype="int32"), [0, 2**31 - 1, -(2**31)])
    assert_array_equal(cf.cast(image, dtype="float32"), image)
    with pytest.raises(ParameterError, match="dtype is required"):
        cf.cast(image)


@pytest.mark.parametrize("shape", [(), (7,), (2, 3), (2, 3, 4), (2, 1, 3, 2, 2), (0, 4)])
def test_any_number_of_axes(shape):
    image = noise("float64", (*shape, 1)).reshape(shape) if shape else np.array(2.5)
    same(cf.multiply(image, 2), np.asarray(image * 2))
    same(cf.add(image, image), np.asarray(image + image))
    same(cf.abs(image), np.asarray(np.abs(image)))


def test_views_of_any_layout():
    base = noise("float64", (8, 10))
    for view in (base.T, base[::-2, ::3], np.asfortranarray(base), base[:, 5:5]):
        same(cf.subtract(view, 1.5), view - 1.5)
        same(cf.abs(view), operator.abs(view))
