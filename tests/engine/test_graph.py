"""Binding filters to images: what is refused and in which words; crops, order, depths."""

import pickle

import numpy as np
import pytest

from chunkfilt.engine.bind import bind
from chunkfilt.engine.graph import (
    Filtered,
    Source,
    Value,
    behind,
    crop,
    plain_axes,
    topological,
    value_depths,
)
from chunkfilt.errors import InputError, ParameterError
from chunkfilt.filters.filter import find_filter
from chunkfilt.grid import ImageSpec


class Nothing:
    """A reader of no pixels."""

    def read(self, region):
        raise AssertionError("binding reads no pixel")


def source(shape=(20, 30), dtype="float64", axes=None, spatial=None):
    axes = axes or plain_axes(len(shape))
    spatial = tuple(range(len(shape))) if spatial is None else spatial
    return Source(ImageSpec(shape, np.dtype(dtype), tuple(axes), spatial), Nothing())


def node(name, *inputs, **params):
    return bind(find_filter(name), inputs, params)


@pytest.mark.parametrize(
    ("name", "params", "said"),
    [
        ("mean", {"size": 0}, "mean: size must be >= 1, got 0"),
        ("mean", {"size": [3, 0]}, "mean: size[1] must be >= 1, got 0"),
        ("mean", {"size": 2.5}, "mean: size must be an integer, got 2.5"),
        ("mean", {"size": "3"}, "mean: size must be an integer, got '3'"),
        ("mean", {"sise": 3}, "mean has no parameter 'sise' (did you mean 'size'?)"),
        ("mean", {"size": [3, 3, 3]}, "mean: size must be one value or 2 (one per spatial axis)"),
        ("mean", {"size": 3, "origin": 2}, "mean: origin must be within -1 and 1"),
        ("mean", {"size": 4, "origin": 2}, "mean: origin must be within -2 and 1"),
        ("mean", {"size": 3, "footprint": np.ones((3, 3))}, "mean: takes size or footprint"),
        ("mean", {"footprint": np.ones(3)}, "mean: footprint must have 2 axes"),
        ("mean", {"mode": "reflec"}, "mean: mode must be one of 'reflect', 'mirror'"),
        ("mean", {"axes": "q"}, "mean: axes must be among y, x or -2 to 1, got 'q'"),
        ("mean", {"axes": [0, 2]}, "got 2"),
        ("mean", {"dtype": "complex64"}, "mean: dtype must be a bool, integer or float dtype"),
        ("gaussian", {"sigma": -1.0}, "gaussian: sigma must be >= 0"),
        ("gaussian", {"sigma": np.nan}, "gaussian: sigma must be"),
        ("gaussian", {"sigma": np.inf}, "gaussian: sigma must be a finite number"),
        ("gaussian", {"order": 1, "sigma": 0.0}, "gaussian: order 1 needs sigma > 0"),
        ("clip", {}, "clip: needs min or max"),
        ("clip", {"min": 3.0, "max": 1.0}, "clip: min must be <= max"),
        ("cast", {}, "cast: dtype is required"),
        ("histogram", {"range": (2.0, 1.0)}, "histogram: range must be (low, high)"),
        ("histogram", {"nbins": 0}, "histogram: nbins must be >= 1"),
        ("statistics", {"percentiles": [101.0]}, "statistics: percentiles[0] must be <= 100"),
        ("unique_counts", {}, "unique_counts: takes bool and integers, got dtype float64"),
    ],
)
def test_what_is_wrong_with_a_parameter_is_said(name, params, said):
    with pytest.raises(ParameterError) as caught:
        node(name, source(), **params)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("cval", "dtype"), [(300.0, "uint8"), (-1.0, "uint16"), (0.5, "int32"), (np.nan, "int8")]
)
def test_selections_refuse_a_cval_that_their_dtype_cannot_hold(cval, dtype):
    with pytest.raises(ParameterError, match=f"cval must be representable as {dtype}"):
        node("maximum", source(dtype=dtype), mode="constant", cval=cval)
    # Only where it would be used.
    node("maximum", source(dtype=dtype), mode="reflect", cval=cval)


@pytest.mark.parametrize("dtype", ["complex64", "U3", "datetime64[s]", "longdouble", "object"])
def test_images_that_are_no_numbers_are_refused_by_dtype(dtype):
    with pytest.raises(InputError, match="mean takes bool, integer and float images"):
        node("mean", source(dtype=dtype))


def test_the_number_of_inputs_is_checked():
    image = source()
    with pytest.raises(InputError, match="subtract takes image and other as input, got 1 image"):
        node("subtract", image)
    with pytest.raises(InputError, match="gabor takes image as input, got 2 images"):
        node("gabor", image, image)
    with pytest.raises(InputError, match=r"mean takes image \(optionally mask\) as input, got 0"):
        node("mean")
    with pytest.raises(InputError):
        node("add", 1, 2)
    with pytest.raises(InputError):
        node("mean", 3)
    with pytest.raises(InputError, match="mask must be an image"):
        node("equalize_hist", image, 1)


def test_inputs_of_different_shapes_are_refused():
    said = r"other must have the shape of the first image, \(20, 30\), got \(20, 31\)"
    with pytest.raises(InputError, match=said):
        node("subtract", source(), source((20, 31)))


@pytest.mark.parametrize("shape", [(), (2, 3, 4, 5)])
def test_neighbourhoods_need_one_to_three_spatial_axes(shape):
    axes = tuple("tzyx"[4 - len(shape) :])
    with pytest.raises(InputError, match="works along 1 to 3 spatial axes"):
        node("mean", source(shape, axes=axes))


def test_gabor_needs_a_plane():
    with pytest.raises(ParameterError, match="gabor: works along 2 spatial axes, got 3"):
        node("gabor", source((4, 5, 6)))
    assert node("gabor", source((4, 5, 6)), axes=("y", "x")).spatial == (1, 2)


def test_axes_by_number_name_and_in_any_order():
    image = source((4, 5, 6))
    for axes in [(1, 2), (-1, -2), ("x", "y"), ("y", -1), [2, "y"]]:
        assert node("mean", image, axes=axes).spatial == (1, 2)
    assert node("mean", image, axes="z").spatial == (0,)
    assert node("mean", image, axes=-1).spatial == (2,)


def test_a_node_knows_its_halo_dtype_and_defaults():
    mean = node("mean", source(dtype="uint8"), size=(4, 3), origin=(1, 0))
    assert mean.halo == ((3, 0), (1, 1))
    assert mean.spec.dtype == np.float32
    assert mean.params["mode"] == "reflect"
    assert node("mean", source(dtype="uint8"), dtype="uint16").spec.dtype == np.uint16
    batch = node("mean", source((4, 20, 30), axes="cyx", spatial=(1, 2)), size=5)
    assert batch.halo == ((0, 0), (2, 2), (2, 2))
    assert batch.batch_shape == (4,)


def test_big_endian_images_give_native_results():
    for name in ("mean", "maximum", "abs"):
        assert node(name, source(dtype=">i2")).spec.dtype.isnative


def test_leading_axes_stand_before_the_first_spatial_axis():
    image = source((4, 20, 30), axes="cyx", spatial=(1, 2))
    bank = node("gabor_bank", image, frequencies=[0.2, 0.4], thetas=[0.0, 1.0, 2.0])
    assert bank.spec.axes == ("c", "orientation", "frequency", "y", "x")
    assert bank.spec.shape == (4, 3, 2, 20, 30)
    assert bank.spec.spatial == (3, 4)
    assert bank.spec.leading == (1, 2)
    twice = node("gabor_bank", bank, frequencies=[0.3], thetas=[0.0])
    assert len(set(twice.spec.axes)) == twice.spec.ndim
    assert twice.spec.grid_shape == (4, 20, 30)


def test_crop_keeps_names_and_drops_single_pixels():
    image = source((4, 20, 30), axes="cyx", spatial=(1, 2))
    one = crop(image, {0: (2, 3), 1: (5, 15)}, dropped=[0])
    assert one.spec.axes == ("y", "x")
    assert one.spec.shape == (10, 30)
    assert one.spec.spatial == (0, 1)
    assert one.needs([((0, 2), (8, 10)), ((1, 3),)]) == [((2, 3),), ((5, 7), (13, 15)), ((1, 3),)]
    bank = node("gabor_bank", image, frequencies=[0.2, 0.4], thetas=[0.0])
    part = crop(bank, {2: (1, 2)}, dropped=[2])
    assert part.spec.axes == ("c", "orientation", "y", "x")
    assert part.spec.leading == (1,)
    assert part.spec.spatial == (2, 3)


def test_order_has_every_node_once_and_inputs_first():
    image = source()
    smooth = node("gaussian", image)
    mean = node("mean", smooth)
    equal = node("equalize_hist", node("subtract", smooth, mean))
    last = node("add", node("multiply", equal, mean), 2)
    order = topological([last, mean])
    assert len(order) == len({id(one) for one in order})
    assert order[0] is image
    assert order[-1] is last
    place = {id(one): i for i, one in enumerate(order)}
    for one in order:
        assert all(place[id(other)] < place[id(one)] for other in behind(one))
    kinds = [type(one) for one in order]
    assert kinds.count(Value) == 2
    assert kinds.count(Filtered) == 6


def test_a_chain_of_thousands_of_steps_needs_no_recursion():
    last = source()
    for _ in range(3000):
        last = node("add", last, 1)
    assert len(topological([last])) == 3001


def test_depth_counts_values_behind_values():
    floats = node("equalize_hist", source())
    depths = {value.filter.name: depth for value, depth in value_depths([floats]).items()}
    assert depths == {"extrema": 0, "histogram": 1}
    integers = node("equalize_hist", source(dtype="uint8"))
    assert list(value_depths([integers]).values()) == [0]
    again = node("equalize_hist", integers)
    assert sorted(value_depths([again]).values()) == [0, 1, 2]
    assert value_depths([node("mean", source())]) == {}


def test_percentiles_take_a_pass_for_every_16_bits():
    for dtype, passes in [("uint8", 1), ("int16", 1), ("float32", 2), ("float64", 4)]:
        found = node("statistics", source(dtype=dtype), percentiles=[50.0])
        assert max(value_depths([found]).values()) == passes - 1
        plain = node("statistics", source(dtype=dtype))
        assert list(value_depths([plain]).values()) == [0]


def test_two_users_of_one_value_share_it_when_it_is_one_node():
    image = source()
    equal = node("equalize_hist", image)
    both = [node("mean", equal), node("maximum", equal)]
    assert len(value_depths(both)) == 2


@pytest.mark.parametrize("ndim", range(1, 7))
def test_names_for_axes_without_names(ndim):
    axes = plain_axes(ndim)
    assert len(axes) == len(set(axes)) == ndim
    assert axes[-3:] == ("z", "y", "x")[-min(ndim, 3) :]


class Zeros:
    """A reader that can travel."""

    def read(self, region):
        return np.zeros(region.shape)


def test_a_graph_travels():
    spec = ImageSpec((20, 30), np.dtype("float64"), ("y", "x"), (0, 1))
    last = node("equalize_hist", node("mean", Source(spec, Zeros()), size=(3, 4)))
    copy = pickle.loads(pickle.dumps(last))
    assert copy.spec == last.spec
    assert copy.filter is last.filter
    assert copy.inputs[0].halo == last.inputs[0].halo
