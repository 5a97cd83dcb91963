"""Arithmetic, powers and logarithms against NumPy."""

import operator
import warnings

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import chunkfilt as cf
from chunkfilt.errors import InputError, ParameterError
from chunkfilt.kernels import real_dtype

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


UNARY = {"sqrt": np.sqrt, "exp": np.exp, "log": np.log}


@pytest.mark.parametrize("name", sorted(UNARY))
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_function_is_numpys_on_floats(name, dtype):
    image = noise(dtype)
    with np.errstate(all="ignore"):
        expected = UNARY[name](image.astype(np.float64)).astype(real_dtype(dtype))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        same(getattr(cf, name)(image), expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_wider_dtype_has_more_digits(dtype):
    image = np.maximum(noise("uint8"), 1).astype(dtype)
    with np.errstate(all="ignore"):
        same(cf.log(image, dtype="float64"), np.log(image.astype(np.float64)))
        same(cf.sqrt(image, dtype="float64"), np.sqrt(image.astype(np.float64)))
        same(cf.power(image, 0.3, dtype="float64"), np.power(image.astype(np.float64), 0.3))


def test_a_dtype_of_integers_rounds_and_saturates():
    image = np.array([0, 2, 3, 100], np.uint8)
    same(cf.sqrt(image, dtype="uint8"), np.array([0, 1, 2, 10], np.uint8))
    same(cf.power(image, 2, dtype="uint8"), np.array([0, 4, 9, 255], np.uint8))
    same(cf.exp(image, dtype="int16"), np.array([1, 7, 20, 32767], np.int16))
    same(cf.log(image, dtype="int8"), np.array([-128, 1, 1, 5], np.int8))


@pytest.mark.parametrize("dtype", ["uint16", "int64", "float32", "float64"])
@pytest.mark.parametrize("base", [2, 10, 3, 0.5, np.e])
def test_a_logarithm_of_any_base(dtype, base):
    image = np.maximum(noise("uint16"), 1).astype(dtype)
    result = cf.log(image, base=base)
    wide = np.log(image.astype(np.float64)) / np.log(base)
    assert result.dtype == real_dtype(dtype)
    np.testing.assert_allclose(result, wide, rtol=1e-6)


def test_whole_powers_have_whole_logarithms():
    twos, tens = 2 ** np.arange(16), 10 ** np.arange(5)
    for dtype in ("uint16", "float32", "int64", "float64"):
        assert_array_equal(cf.log(twos.astype(dtype), base=2), np.arange(16))
        assert_array_equal(cf.log(tens.astype(dtype), base=10), np.arange(5))


@pytest.mark.parametrize("base", [1, 1.0, 0, -2, np.nan, np.inf, "e"])
def test_a_base_that_is_none(base):
    with pytest.raises(ParameterError, match="base must be"):
        cf.log(np.ones(3), base=base)


@pytest.mark.parametrize("a", DTYPES)
@pytest.mark.parametrize("b", ["uint8", "int64", "float32"])
def test_a_power_is_numpys_on_floats(a, b):
    first, second = noise(a), noise(b, seed=1)
    with np.errstate(all="ignore"):
        expected = np.power(first.astype(np.float64), second.astype(np.float64))
        kept = np.result_type(real_dtype(a), real_dtype(b))
        same(cf.power(first, second), expected.astype(kept))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("number", [2, -1, 0.5, -0.5, 0])
def test_a_power_with_a_number(dtype, number):
    image = noise(dtype)
    real = image.astype(np.float64)
    with np.errstate(all="ignore"):
        same(cf.power(image, number), np.power(real, number).astype(real_dtype(dtype)))
        same(cf.power(number, image), np.power(number, real).astype(real_dtype(dtype)))


def test_numpys_numbers_count_as_their_dtype_in_a_power():
    image = noise("float32")
    with np.errstate(invalid="ignore"):
        same(cf.power(image, np.float64(2)), np.power(image, np.float64(2)))
        same(cf.power(image, np.uint8(2)), np.power(image, np.float32(2)))


def test_integers_do_not_wrap_in_a_power():
    image = np.array([0, 20, 255], np.uint8)
    same(cf.power(image, 2), np.array([0, 400, 65025], np.float32))
    same(cf.power(image, np.array([1, 3, 2], np.uint8)), np.array([0, 8000, 65025], np.float32))


def test_what_has_no_root_or_logarithm_is_quiet():
    image = np.array([-1.0, 0.0, np.nan, np.inf])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_array_equal(cf.sqrt(image), [np.nan, 0, np.nan, np.inf])
        assert_array_equal(cf.log(image), [np.nan, -np.inf, np.nan, np.inf])
        assert_array_equal(cf.log(image, base=10), [np.nan, -np.inf, np.nan, np.inf])
        assert_array_equal(cf.power(image, 0.5), [np.nan, 0, np.nan, np.inf])
        assert_array_equal(cf.exp(np.array([1000.0, -1000.0])), [np.inf, 0])


@pytest.mark.parametrize("name", ["power", "add", "divide"])
def test_an_int_larger_than_any_float_is_refused(name):
    with pytest.raises(ParameterError, match=f"{name}: .* does not fit float64"):
        getattr(cf, name)(np.ones(3), 10**400)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_pixels_do_not_depend_on_how_many_there_are(dtype):
    # The planner cuts an image anywhere; vectorised loops and their ends must agree.
    image = np.abs(noise(dtype, (131,))) / 10
    takes = {
        "sqrt": cf.sqrt,
        "exp": cf.exp,
        "log": cf.log,
        "log2": lambda x: cf.log(x, base=2),
        "log3": lambda x: cf.log(x, base=3),
        "power": lambda x: cf.power(x, 1.7),
        "square": lambda x: cf.power(x, 2),
        "image": lambda x: cf.power(x, np.full_like(x, 2)),
        "two": lambda x: cf.power(2, x),
    }
    for name, take in takes.items():
        whole = take(image)
        for size in (1, 2, 3, 5, 8, 17, 33):
            for start in (0, 1, 6):
                part = slice(start, start + size)
                assert_array_equal(take(image[part].copy()), whole[part], err_msg=name)
