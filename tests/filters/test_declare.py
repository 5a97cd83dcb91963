"""The declaration: what the decorator reads, what it adds, and that declarations travel."""

import inspect
import pickle

import numpy as np
import pytest

import chunkfilt as cf
from chunkfilt.engine.bind import bind
from chunkfilt.engine.graph import Source
from chunkfilt.errors import InputError, ParameterError
from chunkfilt.filters import filter as filters
from chunkfilt.filters.declare import image_filter, value_filter
from chunkfilt.filters.docstrings import full_docstring
from chunkfilt.filters.filter import find_filter
from chunkfilt.filters.footprints import disk, ring
from chunkfilt.filters.params import WindowSize
from chunkfilt.grid import ImageSpec


class Ones:
    """A reader that can travel."""

    def read(self, region):
        return np.ones(region.shape)


def source(shape=(20, 30)):
    spec = ImageSpec(shape, np.dtype("float64"), tuple("zyx"[3 - len(shape) :]), (0, 1))
    return Source(spec, Ones())


@image_filter(halo=lambda p: ((p.reach, 0),) * p.ndim, name="_reach")
def reach(block, other=None, *, reach: int = 1, size: WindowSize = 3, origin_px, table):
    """Do nothing of use."""
    return block[:, reach:, reach:]


@value_filter(name="_total", finalize=lambda partial, p: partial * p.times)
def total(block, *, times: int = 1):
    """Sum up."""
    return block.reshape(len(block), -1).sum(axis=1)


@image_filter(name="_twice")
def twice(block):
    return block * 2


def test_a_signature_is_read():
    assert reach.kind == "neighbourhood"
    assert reach.inputs == ("image", "other")
    assert reach.required == 1
    assert reach.own == ("reach", "size")
    assert reach.given == ("origin_px", "table")
    assert list(reach.model.model_fields) == ["reach", "size", "mode", "cval", "axes", "dtype"]


def test_each_kind_gets_its_own_shared_parameters():
    assert twice.kind == "pointwise"
    assert list(twice.model.model_fields) == ["dtype"]
    assert total.kind == "value"
    assert list(total.model.model_fields) == ["times", "axes", "scope"]


def test_a_required_parameter():
    @image_filter(name="_needy")
    def needy(block, *, level: float):
        return block

    with pytest.raises(ParameterError, match="_needy: level is required"):
        needy.validate({})
    assert needy.validate({"level": 2})["level"] == 2.0


def test_a_name_with_an_underscore_is_not_for_users():
    assert "_reach" not in filters.registered()
    with pytest.raises(InputError):
        find_filter("_reach")


def test_an_unknown_filter_gets_the_nearest_name():
    with pytest.raises(InputError, match=r"unknown filter 'gausian' \(did you mean 'gaussian'\?\)"):
        find_filter("gausian")


def test_a_name_that_is_taken_is_refused_and_the_first_stays():
    held = find_filter("mean")
    with pytest.raises(InputError, match=r"'mean' exists already, in chunkfilt\.filters\.windows"):
        image_filter(name="mean")(lambda block: block)
    assert find_filter("mean") is held


def test_the_catalogue_is_in_alphabetical_order():
    names = list(filters.registered())
    assert names == sorted(names)
    assert {"mean", "gaussian", "gabor", "equalize_hist"} <= set(names)


def test_the_same_function_declared_again_takes_the_place_of_the_first():
    # A notebook's cell that is run twice.
    def make():
        @image_filter(name="declared_twice")
        def kernel(block):
            return block

        return kernel

    try:
        make()
        second = make()
        assert find_filter("declared_twice") is second
    finally:
        filters._REGISTRY.pop("declared_twice", None)


@pytest.mark.parametrize("name", sorted(filters.registered()))
def test_a_declared_filter_travels_as_its_name(name):
    held = find_filter(name)
    assert pickle.loads(pickle.dumps(held)) is held
    assert len(pickle.dumps(held)) < 200


@pytest.mark.parametrize("held", [reach, total, twice])
def test_a_filter_of_a_module_travels(held):
    assert pickle.loads(pickle.dumps(held)) is held


def test_a_bound_filter_of_ones_own_travels_and_gives_the_same():
    node = bind(twice, [source()], {"dtype": "uint8"})
    copy = pickle.loads(pickle.dumps(node))
    assert copy.spec == node.spec
    assert copy.filter is twice


@pytest.mark.parametrize(
    ("name", "params", "written"),
    [
        ("mean", {}, {}),
        ("mean", {"size": 3}, {"size": 3}),
        ("mean", {"size": (3, 5), "mode": "reflect"}, {"size": [3, 5]}),
        ("mean", {"mode": "grid-wrap"}, {"mode": "wrap"}),
        (
            "mean",
            {"footprint": disk(4), "dtype": np.uint16},
            {"footprint": {"disk": 4}, "dtype": "uint16"},
        ),
        ("mean", {"axes": ("y", -1)}, {"axes": ["y", -1]}),
        ("gaussian", {"sigma": 1.0}, {}),
        ("gaussian", {"sigma": [0.5, 2]}, {"sigma": [0.5, 2.0]}),
        ("cast", {"dtype": "uint8"}, {"dtype": "uint8"}),
        ("statistics", {"percentiles": [1, 50]}, {"percentiles": [1.0, 50.0]}),
        ("histogram", {"range": (0.0, 1.0)}, {"range": [0.0, 1.0]}),
        ("clip", {"max": np.float32(2.5)}, {"max": 2.5}),
    ],
)
def test_dump_writes_what_differs_from_the_defaults(name, params, written):
    held = find_filter(name)
    checked = held.validate(params)
    dumped = held.dump(checked)
    assert dumped == written
    again = held.validate(dumped)
    assert again.keys() == checked.keys()
    for key, value in checked.items():
        np.testing.assert_array_equal(again[key], value)


def test_a_footprint_of_no_maker_is_dumped_as_0_and_1():
    held = find_filter("maximum")
    checked = held.validate({"footprint": ring(1, 1.5)})
    dumped = held.dump(checked)
    assert dumped == {"footprint": [[1, 1, 1], [1, 0, 1], [1, 1, 1]]}


def test_values_that_are_no_json_survive_the_dump():
    held = find_filter("mean")
    for cval in (np.nan, np.inf, -np.inf):
        dumped = held.dump(held.validate({"mode": "constant", "cval": cval}))
        assert held.validate(dumped)["cval"] == pytest.approx(cval, nan_ok=True)


def test_the_docstring_has_the_shared_parameters_before_returns():
    text = full_docstring(find_filter("mean"))
    assert text.index("origin :") < text.index("mode : {'reflect'") < text.index("dtype :")
    assert text.index("dtype :") < text.index("\nReturns\n")
    assert "default 'reflect'" in text
    assert full_docstring(find_filter("cast")).count("dtype : dtype") == 1


def test_the_public_function_shows_its_whole_signature():
    signature = inspect.signature(cf.gaussian)
    assert list(signature.parameters) == [
        "image",
        "mask",
        "sigma",
        "order",
        "truncate",
        "radius",
        "mode",
        "cval",
        "nan_policy",
        "axes",
        "dtype",
    ]
    assert signature.parameters["sigma"].default == 1.0
    assert signature.parameters["image"].default is inspect.Parameter.empty
    assert cf.gaussian.__name__ == "gaussian"
    assert inspect.signature(cf.cast).parameters["dtype"].default is inspect.Parameter.empty


def test_a_filter_of_ones_own_on_arrays():
    @cf.image_filter(name="_shift_right", halo=lambda p: ((0, 0),) * (p.ndim - 1) + ((2, 0),))
    def shift_right(block, *, factor: float = 1.0):
        return block[..., :-2] * factor

    image = np.arange(12.0).reshape(3, 4)
    result = shift_right(image, factor=2.0, mode="wrap")
    np.testing.assert_array_equal(result, 2 * np.roll(image, 2, axis=1))
    with pytest.raises(ParameterError, match="has no parameter 'factr'"):
        shift_right(image, factr=1.0)


def test_a_value_of_ones_own_on_arrays():
    @cf.value_filter(name="_largest_row", combine=np.maximum)
    def largest_row(block):
        return block.max(axis=tuple(range(1, block.ndim)))

    image = np.arange(24).reshape(2, 3, 4)
    assert largest_row(image) == 23
    np.testing.assert_array_equal(largest_row(image, axes=(1, 2)), [11, 23])
    assert largest_row(image, axes=(1, 2), scope="all") == 23


def test_a_rule_that_refuses_names_the_filter():
    def never(p, dtypes):
        raise ValueError("not today")

    @image_filter(name="_picky", check=never)
    def picky(block):
        return block

    with pytest.raises(ParameterError, match="_picky: not today"):
        bind(picky, [source()], {})
