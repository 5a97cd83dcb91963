"""The catalogue has every filter once, and a page that is true for each."""

import numpy as np
import pytest

import chunkfilt as cf
from chunkfilt.arrays.catalogue import entry, example_of, families, page
from chunkfilt.documents import parse_yaml
from chunkfilt.errors import InputError
from chunkfilt.filters.filter import registered

OWN = [
    name
    for name, held in registered().items()
    if held.function.__module__.startswith("chunkfilt.filters.")
]


def test_every_filter_stands_in_one_family():
    listed = [name for family in families().values() for name in family]
    assert sorted(listed) == sorted(registered())
    assert all(told and told.endswith(".") for one in families().values() for told in one.values())


@pytest.mark.parametrize("name", OWN)
def test_a_page_says_what_there_is_to_know(name):
    declared, held = registered()[name], entry(name)
    call, params, _ = example_of(declared)
    assert call.startswith(f"cf.{name}("), "its docstring has no example that calls it"
    (step,) = parse_yaml(("steps:\n" + held["yaml"]).encode(), "page").data["steps"]
    with cf.allow_code():
        declared.validate(step[name])
    assert set(step[name]) == set(params)
    assert set(held["gives"]) != {"not taken"}, "the example's parameters fit no image"
    assert held["reads"] != "Depends on the image."
    for words in ("Parameters\n", "Returns\n", "Reads\n", "Dtypes\n", "In YAML\n"):
        assert words in page(name)


def test_what_is_read_is_what_is_needed():
    assert entry("gaussian")["reads"].endswith("4 before and 4 after along y and x.")
    assert entry("histogram")["reads"] == "Every pixel of the image, once."
    assert entry("abs")["reads"] == "The pixel itself."
    assert entry("equalize_hist")["reads"].startswith("Every pixel of the image, once for its")


def test_dtypes_are_those_of_the_filter():
    gives = entry("mean")["gives"]
    for result, taken in gives.items():
        for dtype in taken:
            assert cf.mean(np.zeros((3, 3), dtype)).dtype == result


def test_an_unknown_filter():
    with pytest.raises(InputError, match="did you mean 'gaussian'"):
        entry("gausian")
