"""Lazy images: a NumPy-like face on a graph."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

import chunkfilt as cf
from chunkfilt.errors import InputError

SHAPE = (4, 12, 15)


@pytest.fixture(scope="module")
def stack(tmp_path_factory, make_store, make_pixels):
    """A stored image of 4 c, 12 y, 15 x, filtered lazily; and its pixels by scipy."""
    data = make_pixels(SHAPE)
    path = make_store(tmp_path_factory.mktemp("s") / "in.zarr", data, chunks=(1, 5, 6), dims="cyx")
    image = cf.maximum(cf.open(path), size=[3, 4])
    return image, ndimage.maximum_filter(data, size=(1, 3, 4))


def axis_index(n):
    bound = st.none() | st.integers(-n - 3, n + 3)
    slices = st.builds(slice, bound, bound, st.none() | st.integers(1, n + 2))
    return st.integers(-n, n - 1) | slices | st.integers(-n, n - 1).map(np.int64)


@st.composite
def indices(draw):
    parts = [draw(axis_index(n)) for n in SHAPE]
    if draw(st.booleans()):
        start = draw(st.integers(0, len(parts)))
        stop = draw(st.integers(start, len(parts)))
        parts[start:stop] = [Ellipsis]
    else:
        parts = parts[: draw(st.integers(0, len(parts)))]
    for _ in range(draw(st.integers(0, 2))):
        parts.insert(draw(st.integers(0, len(parts))), None)
    return parts[0] if len(parts) == 1 and draw(st.booleans()) else tuple(parts)


@settings(max_examples=200, deadline=None)
@given(indices())
def test_indexing_is_numpys(stack, index):
    image, whole = stack
    got, expected = image[index], whole[index]
    assert np.shape(got) == np.shape(expected)
    assert got.dtype == expected.dtype
    np.testing.assert_array_equal(got, expected)


def test_one_pixel_is_a_scalar(stack):
    image, whole = stack
    assert isinstance(image[1, 2, 3], np.uint16)
    assert image[1, 2, 3] == whole[1, 2, 3]


WRONG = [
    4, -5, (0, 12), (0, 0, -16), (0, 0, 0, 0), (0, 0, 0, Ellipsis, 0), [0, 1], np.array([0, 1]),
    "y", 1.0, (0, slice(None, None, -1)), (slice(3, 0, -1),), slice("a", None), (0, 1.5),
    (Ellipsis, Ellipsis), True, np.bool_(False), (0, False), np.ones(SHAPE, bool),
    (Ellipsis, 0, Ellipsis), slice(None, None, 0),
]  # fmt: skip


@pytest.mark.parametrize("index", WRONG, ids=repr)
def test_indices_that_are_refused(stack, index):
    with pytest.raises((IndexError, TypeError, ValueError)):
        stack[0][index]


def test_errors_of_indexing_say_what_is_wrong(stack):
    for index, words in [
        (9, "index 9 is out of bounds for axis 0 with 4 pixels"),
        ((0, 0, 0, 0), "too many indices: the image has 3 axes, got 4"),
        ((slice(None, None, -2),), "positive steps"),
        ("y", "ints, slices, None and ... as indices, got 'y'"),
    ]:
        with pytest.raises(IndexError, match=re.escape(words)):
            stack[0][index]


def test_only_the_window_and_its_halo_are_read(stack, reads):
    stack[0][1, 5:7, 6:8]
    assert sum(region.size for region in reads) == (2 + 2) * (2 + 3)
    assert all(region.start[0] == 1 and region.stop[0] == 2 for region in reads)
    reads.clear()
    assert stack[0][:, 3:3].shape == (4, 0, 15)
    assert reads == []


def test_crop_before_and_after_a_filter(mosaic, make_pixels):
    data = make_pixels((40, 50))
    m = cf.open(mosaic)
    box = {"y": (10, 20), "x": (-15, -5)}
    after = cf.maximum(m, size=5).crop(**box)
    np.testing.assert_array_equal(after[:], ndimage.maximum_filter(data, 5)[10:20, -15:-5])
    before = cf.maximum(m.crop(**box), size=5)
    np.testing.assert_array_equal(before[:], ndimage.maximum_filter(data[10:20, -15:-5], 5))
    assert not np.array_equal(before[:], after[:])
    assert (after.shape, after.axes) == ((10, 10), ("y", "x"))


def test_crop_of_a_crop_and_of_one_index(stack):
    image, whole = stack
    np.testing.assert_array_equal(
        image.crop(y=(2, 11)).crop(y=(1, 5), x=(0, 3))[:], whole[:, 3:7, :3]
    )
    one = image.crop(c=-1, x=3)
    assert one.axes == ("y",)
    assert one.spatial == ("y",)
    np.testing.assert_array_equal(one[:], whole[-1, :, 3])
    np.testing.assert_array_equal(image.crop(y=(None, -2))[:], whole[:, :-2])
    np.testing.assert_array_equal(image.crop(y=slice(2, None))[:], whole[:, 2:])


@pytest.mark.parametrize(
    "box", [{"z": (0, 1)}, {"y": (0, 13)}, {"y": (5, 2)}, {"y": 12}, {"y": "a"}, {"y": (0, 1, 2)},
            {"y": (0.5, 3)}, {"y": ("a", "b")}, {"y": True}, {"y": 2.0}, {"y": slice(0, 4, 2)}],
    ids=str,
)  # fmt: skip
def test_crops_that_are_refused(stack, box):
    with pytest.raises(InputError, match="crop"):
        stack[0].crop(**box)


OPERATORS = {
    "+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
}  # fmt: skip
NUMBERS = [
    3,
    2.5,
    0,
    1e-3,
    np.float32(2),
    np.float64(0.1),
    np.int64(10),
    np.uint8(200),
    np.int16(7),
]


@pytest.fixture(scope="module")
def pair(tmp_path_factory, make_store, make_pixels):
    folder = tmp_path_factory.mktemp("pair")

    def opened(dtype, seed):
        data = make_pixels((9, 11), dtype, seed)
        path = folder / f"{dtype}{seed}"
        return cf.open(path if path.exists() else make_store(path, data)), data

    return opened


def same(got, expected):
    assert got.dtype == expected.dtype
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("sign", OPERATORS)
@pytest.mark.parametrize("dtype", ["uint8", "int32", "float32"])
@pytest.mark.parametrize("number", NUMBERS, ids=repr)
def test_operators_with_numbers_are_numpys(pair, sign, dtype, number):
    image, data = pair(dtype, 0)
    operate = OPERATORS[sign]
    with np.errstate(all="ignore"):
        same(operate(image, number)[:], operate(data, number))
        same(operate(number, image)[:], operate(number, data))


@pytest.mark.parametrize("sign", OPERATORS)
@pytest.mark.parametrize("other", ["uint8", "int16", "float32", "float64"])
def test_operators_of_two_images_are_numpys(pair, sign, other):
    (a, left), (b, right) = pair("uint8", 0), pair(other, 1)
    with np.errstate(all="ignore"):
        same(OPERATORS[sign](a, b)[:], OPERATORS[sign](left, right))


def test_comparisons_and_masks(pair):
    (a, left), (b, right) = pair("uint8", 0), pair("int16", 1)
    same((a > 40)[:], left > 40)
    same((a <= 40)[:], left <= 40)
    same(((a > 40) & (a <= b) | ~(b < 0))[:], (left > 40) & (left <= right) | ~(right < 0))
    same(((a > 40) ^ (b > 0))[:], (left > 40) ^ (right > 0))
    np.testing.assert_allclose((a**2)[:], left.astype(float) ** 2)
    assert (a == b) is False
    with pytest.raises(InputError, match="compare first"):
        _ = a & b
    with pytest.raises(InputError, match=r"turns masks round, .* uint8"):
        _ = ~a


def test_abs_and_a_chain(pair):
    image, data = pair("int32", 0)
    same(abs(image)[:], abs(data))
    same((2 * (image - 5) / 3 + image)[:], 2 * (data - 5) / 3 + data)


@pytest.mark.parametrize("number", [300, -1, 10**30])
def test_a_number_the_dtype_cannot_hold(pair, number):
    image, data = pair("uint8", 0)
    with pytest.raises(OverflowError):
        data + number
    with pytest.raises((InputError, OverflowError)):
        (image + number)


@pytest.mark.parametrize("other", ["a", None, [1, 2], np.ones((9, 11)), True])
def test_operands_that_are_refused(pair, other):
    image, _ = pair("uint8", 0)
    with pytest.raises((TypeError, InputError)):
        image + other
    with pytest.raises((TypeError, InputError)):
        other * image


def test_images_of_two_shapes(pair, stack):
    with pytest.raises(InputError, match="must have the shape of the first image"):
        pair("uint8", 0)[0] + stack[0]


def test_a_local_z_score_takes_one_sweep(mosaic, make_pixels, reads):
    m = cf.open(mosaic)
    score = (m - cf.mean(m, size=5)) / cf.std(m, size=5)
    assert len(score.plan().passes) == 1
    got = score[:]
    assert sum(region.size for region in reads) == 40 * 50
    data = make_pixels((40, 50)).astype(float)
    mean = ndimage.uniform_filter(data, 5)
    std = np.sqrt(ndimage.generic_filter(data, np.var, 5))
    np.testing.assert_allclose(got, (data - mean) / std, rtol=1e-4, atol=1e-5)


def test_as_an_array(stack):
    image, whole = stack
    np.testing.assert_array_equal(np.asarray(image), whole)
    assert np.asarray(image, dtype="float32").dtype == np.float32
    np.testing.assert_array_equal(image.compute(workers=1), whole)
    np.testing.assert_array_equal(np.stack(list(image)), whole)
    with pytest.raises(ValueError, match="copy"):
        np.array(image, copy=False)
    with pytest.raises(InputError, match="truth value"):
        bool(image)


def test_what_is_known_without_a_pixel(stack, reads):
    image, whole = stack
    assert (image.shape, image.dtype, image.ndim) == (SHAPE, np.uint16, 3)
    assert (image.size, image.nbytes, len(image)) == (whole.size, whole.nbytes, 4)
    assert (image.axes, image.spatial) == (("c", "y", "x"), ("y", "x"))
    assert image.chunks == (1, 5, 6)
    assert image.crop(c=0).chunks == (5, 6)
    text = repr(image)
    assert text == "<chunkfilt.Image 4 c x 12 y x 15 x, uint16, maximum of in.zarr>"
    assert "add of in.zarr and 3" in repr(cf.add(cf.open(image.node.inputs[0].reader.path), 3))
    assert reads == []


def test_chunks_with_a_leading_axis_are_named(stack):
    from chunkfilt.filters.filter import registered

    if "gabor_bank" not in registered():
        pytest.skip("no filter with a leading axis")
    image = cf.gabor_bank(stack[0], frequencies=[0.1, 0.2], thetas=[0.0])
    assert len(image.chunks) == image.ndim


def test_html_shows_a_picture_where_that_is_cheap(mosaic, reads):
    pytest.importorskip("PIL")
    html = cf.mean(cf.open(mosaic), size=3)._repr_html_()
    assert "data:image/png;base64," in html
    assert "mean of in.zarr" in html
    assert sum(region.size for region in reads) <= 40 * 50


def test_html_never_sweeps(mosaic, reads):
    image = cf.mean(cf.equalize_hist(cf.open(mosaic)), size=3)
    html = image._repr_html_()
    assert "<img" not in html
    assert "mean of equalize_hist of in.zarr" in html
    assert "40 y x 50 x" in html
    assert reads == []
    assert "<img" not in cf.LazyValue(cf.statistics(cf.open(mosaic)).node).__repr__()
    pytest.importorskip("PIL")
    image[0, 0]
    assert "<img" in image._repr_html_()


def test_html_of_a_large_image_reads_a_window(tmp_path, reads):
    import zarr

    pytest.importorskip("PIL")
    zarr.create_array(str(tmp_path / "m"), shape=(1 << 20, 1 << 20), chunks=(64, 64), dtype="u2")
    cf.mean(cf.open(tmp_path / "m"), size=3)._repr_html_()
    assert sum(region.size for region in reads) <= 300 * 300


def test_html_escapes_what_a_store_is_called(make_store, make_pixels, tmp_path):
    path = make_store(tmp_path / "a<b>&c.zarr", make_pixels((4, 4)))
    html = cf.equalize_hist(cf.open(path))._repr_html_()
    assert "<b>" not in html


def test_html_of_nothing(tmp_path, make_store, make_pixels):
    html = cf.open(make_store(tmp_path / "e", make_pixels((0, 4))))._repr_html_()
    assert "<img" not in html


def test_a_value_is_kept_after_the_first_window(mosaic, make_pixels, reads):
    image = cf.equalize_hist(cf.open(mosaic))
    data = make_pixels((40, 50))
    values, counts = np.unique(data, return_counts=True)
    share = np.cumsum(counts) / data.size
    expected = share[np.searchsorted(values, data)]
    np.testing.assert_allclose(image[3:5, 7:9], expected[3:5, 7:9])
    assert sum(region.size for region in reads) == 40 * 50 + 4
    reads.clear()
    np.testing.assert_allclose(image[30:33, 1:3], expected[30:33, 1:3])
    cf.mean(image, size=3)[10:12, 10:12]
    assert sum(region.size for region in reads) == 6 + 16


def test_a_value_is_computed_once(mosaic, make_pixels, reads):
    value = cf.statistics(cf.open(mosaic))
    assert "statistics of in.zarr" in repr(value)
    data = make_pixels((40, 50))
    assert value.compute().max == data.max()
    np.testing.assert_allclose(value.compute().mean, data.mean())
    assert sum(region.size for region in reads) == 40 * 50


def test_values_of_a_stack_have_its_batch_axes(stack):
    found = cf.statistics(stack[0]).compute()
    np.testing.assert_array_equal(found.max, stack[1].max(axis=(1, 2)))
    whole = cf.statistics(stack[0], scope="all").compute()
    assert whole.max == stack[1].max()
