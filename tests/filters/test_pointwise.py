"""Limits, casts, and the choice between images, against NumPy."""

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


NUMBERS = [0, 3, 2.5, np.nan, True, np.float64(1.5), np.int16(-3)]


@pytest.mark.parametrize("a", DTYPES)
@pytest.mark.parametrize("b", ["bool", "uint8", "int16", "uint64", "float16", "float64"])
def test_a_choice_between_images(a, b):
    condition = noise("bool", seed=2)
    first, second = noise(a), noise(b, seed=1)
    same(cf.where(condition, first, second), np.where(condition, first, second))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("number", NUMBERS, ids=repr)
def test_a_choice_between_an_image_and_a_number(dtype, number):
    if np.result_type(np.dtype(dtype), number).kind == "u" and number < 0:
        return
    condition, image = noise("bool", seed=2), noise(dtype)
    same(cf.where(condition, image, number), np.where(condition, image, number))
    same(cf.where(condition, number, image), np.where(condition, number, image))


def test_a_choice_between_numbers():
    condition = noise("bool")
    same(cf.where(condition, 1, 0), np.where(condition, 1, 0))
    same(cf.where(condition, 1, 0, dtype="uint8"), condition.astype(np.uint8))
    same(cf.where(condition, 0.5, 3), np.where(condition, 0.5, 3))
    same(cf.where(condition, np.float32(0.5), 3), np.where(condition, np.float32(0.5), 3))


@pytest.mark.parametrize("dtype", DTYPES)
def test_any_image_may_be_the_condition(dtype):
    condition = noise(dtype)
    condition.flat[::3] = 0
    image = noise("int16")
    same(cf.where(condition, image, -1), np.where(condition, image, -1))


def test_a_nan_is_a_condition_that_holds():
    condition = np.array([np.nan, 0.0, -0.0, 1e-300])
    assert_array_equal(cf.where(condition, 1, 0), [1, 0, 0, 1])


def test_a_choice_keeps_every_bit():
    first = np.array([0x7FF8000000000001, 0x8000000000000000, 1], np.uint64).view(np.float64)
    second = np.zeros(3)
    result = cf.where(np.array([True, True, False]), first, second)
    assert_array_equal(result.view(np.uint64), [0x7FF8000000000001, 0x8000000000000000, 0])


def test_a_wider_dtype_holds_a_number_that_the_image_does_not():
    image = np.array([1, 2], np.uint8)
    with pytest.raises(ParameterError, match="where: 300 does not fit uint8: give a wider dtype="):
        cf.where(image, image, 300)
    same(cf.where(image == 1, 300, image, dtype="uint16"), np.array([300, 2], np.uint16))
    same(cf.where(image == 1, -1, image, dtype="float32"), np.array([-1, 2], np.float32))


def test_a_condition_is_an_image():
    image = np.zeros(3)
    with pytest.raises(ParameterError, match="where: the condition must be an image, got 1"):
        cf.where(1, image, image)
    with pytest.raises(InputError, match=r"where takes .*, got 2 images"):
        cf.where(image, image)
    with pytest.raises(InputError, match="must have the shape of the first image"):
        cf.where(image, np.zeros((2, 3)), 0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_masked_pixels_are_nan_or_zero(dtype):
    image, kept = noise(dtype), noise("bool", seed=3)
    blank = np.nan if image.dtype.kind == "f" else 0
    same(cf.mask(image, kept), np.where(kept, image, image.dtype.type(blank)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("masks", ["uint8", "float32"])
def test_masked_pixels_get_the_value(dtype, masks):
    image, kept = noise(dtype), noise(masks, seed=3)
    kept.flat[::2] = 0
    same(cf.mask(image, kept, value=1), np.where(kept != 0, image, image.dtype.type(1)))


def test_a_mask_of_64_bit_pixels_keeps_their_digits():
    image = np.array([2**63 - 1, -(2**63), 5])
    same(cf.mask(image, [1, 1, 0], value=2**63 - 2), np.array([2**63 - 1, -(2**63), 2**63 - 2]))
    wide = cf.mask(image, [1, 1, 0], value=2**64 - 1, dtype="uint64")
    same(wide, np.array([2**63 - 1, 0, 2**64 - 1], np.uint64))
    back = cf.mask(np.array([2**64 - 1, 3], np.uint64), [1, 0], value=-(2**63), dtype="int64")
    same(back, np.array([2**63 - 1, -(2**63)]))


def test_a_mask_with_a_dtype_casts_the_pixels_and_takes_its_values():
    image = np.array([1, 250, 3], np.uint8)
    same(cf.mask(image, [1, 1, 0], dtype="float32"), np.array([1, 250, np.nan], np.float32))
    same(cf.mask(image, [1, 1, 0], value=-7, dtype="int16"), np.array([1, 250, -7], np.int16))
    real = np.array([0.5, 1.5, 300.0])
    same(cf.mask(real, [1, 1, 1], dtype="uint8"), np.array([0, 2, 255], np.uint8))
    same(cf.mask(real, [0, 1, 1], value=7, dtype="uint8"), np.array([7, 2, 255], np.uint8))
    same(cf.mask(real, [0, 0, 1], value=True, dtype="bool"), np.array([True, True, True]))


@pytest.mark.parametrize(
    ("dtype", "value"),
    [("uint8", 300), ("uint8", -1), ("int16", 2.5), ("uint8", np.nan), ("int64", np.inf),
     ("bool", 2), ("uint64", 2**64), ("float16", 1e6), ("float32", 1e39)],
)  # fmt: skip
def test_a_value_that_the_dtype_does_not_hold_is_refused(dtype, value):
    with pytest.raises(ParameterError, match=f"mask: value must be representable as {dtype}"):
        cf.mask(noise(dtype), noise("bool"), value=value)


def test_a_mask_is_an_image_and_a_value_a_number():
    image = np.zeros(3)
    with pytest.raises(ParameterError, match="mask: mask must be an image, got 1"):
        cf.mask(image, 1)
    with pytest.raises(ParameterError, match="mask: image must be an image, got 1"):
        cf.mask(1, image)
    with pytest.raises(ParameterError, match="mask: value must be a number, got 'nan'"):
        cf.mask(image, image, value="nan")
    with pytest.raises(InputError, match="mask takes image and mask as input"):
        cf.mask(image)


def test_images_by_name():
    image, kept = noise("int16"), noise("bool")
    same(cf.mask(image, mask=kept), cf.mask(image, kept))
    same(cf.where(kept, image=image, other=0), cf.where(kept, image, 0))


@pytest.mark.parametrize("shape", [(), (7,), (2, 3, 4), (2, 1, 3, 2, 2), (0, 4)])
def test_any_number_of_axes(shape):
    image = noise("float64", (*shape, 1)).reshape(shape) if shape else np.array(2.5)
    kept = np.asarray(image > 0)
    same(cf.where(kept, image, 0), np.asarray(np.where(kept, image, 0)))
    same(cf.mask(image, kept), np.asarray(np.where(kept, image, np.nan)))
