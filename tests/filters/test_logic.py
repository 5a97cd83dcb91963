"""Comparisons and logic against NumPy, and against exact numbers."""

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

COMPARISONS = {
    "greater": operator.gt,
    "greater_equal": operator.ge,
    "less": operator.lt,
    "less_equal": operator.le,
    "equal": operator.eq,
    "not_equal": operator.ne,
}
LOGIC = ("logical_and", "logical_or", "logical_xor")
INTEGERS = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]
DTYPES = ["bool", *INTEGERS, "float16", "float32", "float64"]


def few(dtype, seed):
    """Return pixels of few levels, those at the ends of the dtype among them."""
    rng = np.random.default_rng(seed)
    kind = np.dtype(dtype)
    if kind.kind == "b":
        return rng.random((6, 7)) < 0.5
    if kind.kind == "f":
        return rng.choice(np.array([-1.5, 0, 1, 2, np.nan, np.inf], kind), (6, 7))
    info = np.iinfo(kind)
    return rng.choice(np.array([info.min, 0, 1, 2, info.max], kind), (6, 7))


def same(result, expected):
    assert result.dtype == bool
    assert_array_equal(result, expected)


@pytest.mark.parametrize("name", [*COMPARISONS, *LOGIC])
@pytest.mark.parametrize("a", DTYPES)
def test_two_images_are_numpys(name, a):
    first = few(a, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for b in ("bool", "uint8", "int64", "uint64", "float32"):
            second = few(b, 2)
            same(getattr(cf, name)(first, second), getattr(np, name)(first, second))


@pytest.mark.parametrize("name", [*COMPARISONS, *LOGIC])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_number_takes_the_place_of_either_image(name, dtype):
    image = few(dtype, 3)
    for number in (0, 1, -1, 1.5, np.nan, np.inf, True, np.int8(-1)):
        same(getattr(cf, name)(image, number), getattr(np, name)(image, number))
        same(getattr(cf, name)(number, image), getattr(np, name)(number, image))


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(sorted(COMPARISONS)),
    hnp.arrays(st.sampled_from(INTEGERS), 5),
    hnp.arrays(st.sampled_from(INTEGERS), 5),
    st.integers(-(2**70), 2**70),
)
def test_integers_are_compared_by_value(name, first, second, number):
    compare, take = COMPARISONS[name], getattr(cf, name)
    pairs = zip(first.tolist(), second.tolist(), strict=True)
    same(take(first, second), [compare(a, b) for a, b in pairs])
    same(take(first, number), [compare(a, number) for a in first.tolist()])
    same(take(number, first), [compare(number, a) for a in first.tolist()])


def test_unsigned_integers_against_negative_ones():
    unsigned, signed = np.array([0, 2**64 - 1], np.uint64), np.array([-1, -1])
    same(cf.greater(unsigned, signed), [True, True])
    same(cf.equal(unsigned, signed), [False, False])
    same(cf.less(unsigned, -1), [False, False])


def test_large_integers_against_floats_are_numpys():
    image = np.array([2**53, 2**53 + 1])
    same(cf.equal(image, 2.0**53), image == 2.0**53)


def test_a_number_beyond_the_dtype_is_compared_all_the_same():
    image = np.array([0, 255], np.uint8)
    same(cf.less(image, 300), [True, True])
    same(cf.greater_equal(image, -1), [True, True])
    same(cf.not_equal(image, 10**400), [True, True])


def test_an_int_larger_than_any_float_is_no_operand_for_floats():
    with pytest.raises(ParameterError, match=r"less: 10+\.\.\. does not fit float64"):
        cf.less(np.ones(3), 10**400)


def test_a_dtype_of_its_own():
    result = cf.greater(np.array([1, 2, 3]), 2, dtype="uint8")
    assert result.dtype == np.uint8
    assert_array_equal(result, [0, 0, 1])


@pytest.mark.parametrize("dtype", DTYPES)
def test_not_is_numpys(dtype):
    image = few(dtype, 4)
    same(cf.logical_not(image), np.logical_not(image))


def test_a_nan_is_true_and_equals_nothing():
    image = np.array([np.nan, 0.0, -0.0])
    same(cf.logical_and(image, True), [True, False, False])
    same(cf.logical_not(image), [False, True, True])
    same(cf.equal(image, image), [False, True, True])
    same(cf.not_equal(image, image), [True, False, False])


def test_what_does_not_go_together_is_refused():
    image = np.zeros((3, 4))
    with pytest.raises(InputError, match="must have the shape of the first image"):
        cf.less(image, np.zeros(4))
    with pytest.raises(InputError, match="less takes image and other as input, got 1 image"):
        cf.less(image)
    with pytest.raises(InputError, match="logical_not takes image by position, got 2"):
        cf.logical_not(image, image)
    with pytest.raises(InputError):
        cf.logical_or(1, 0)


@pytest.mark.parametrize("shape", [(), (7,), (2, 3, 4), (2, 1, 3, 2, 2), (0, 4)])
def test_any_number_of_axes(shape):
    image = np.arange(max(np.prod(shape, dtype=int), 1), dtype=float)[: np.prod(shape, dtype=int)]
    image = image.reshape(shape)
    same(cf.greater(image, 3), np.asarray(image > 3))
    same(cf.logical_xor(image, image > 3), np.logical_xor(image, image > 3))
    same(cf.logical_not(image), np.logical_not(image))


def test_masks_of_images_in_a_job(mosaic, make_job):
    job = make_job(
        """
        version: 1
        input: in.zarr
        steps:
          - greater: {}
            input: [source, 20000]
            name: bright
          - less: {}
            input: [source, 40000]
            name: dim
          - logical_and: {}
            input: [bright, dim]
            name: between
          - where: {}
            input: [between, source, 7]
            name: chosen
          - mask: {value: 9}
            input: [source, between]
          - divide: {}
            input: [1, chosen]
          - power: {}
            input: [2.5, between]
        output: {path: out.zarr, save: [between, chosen, mask, divide, power]}
        """
    )
    cf.run_yaml(job, progress=False)
    image = cf.open(mosaic)[...]
    between = (image > 20000) & (image < 40000)
    chosen = np.where(between, image, 7)
    out = mosaic.parent / "out.zarr"
    same(cf.open(out, "between")[...], between)
    assert_array_equal(cf.open(out, "chosen")[...], chosen)
    assert_array_equal(cf.open(out, "mask")[...], np.where(between, image, 9))
    assert_array_equal(cf.open(out, "divide")[...], 1 / chosen)
    assert_array_equal(cf.open(out, "power")[...], np.float32(2.5) ** between)


def test_a_job_goes_round_with_its_numbers(mosaic, tmp_path):
    image = cf.open(mosaic)
    lazy = cf.where(cf.less_equal(100, image), cf.mask(image, cf.logical_not(image)), 2.5)
    text = cf.to_yaml(lazy, tmp_path / "job.yaml")
    assert "input: [100, source]" in text
    again = cf.from_yaml(tmp_path / "job.yaml")
    assert again.dtype == np.float64
    pixels = image[...]
    expected = np.where(pixels >= 100, np.where(pixels == 0, pixels, 0), 2.5)
    assert_array_equal(again[...], expected)
    assert cf.to_yaml(again) == cf.to_yaml(lazy)
