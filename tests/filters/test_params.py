"""What a filter accepts for its parameters, and the words in which it refuses the rest."""

import numpy as np
import pytest

from chunkfilt.errors import ParameterError
from chunkfilt.filters.filter import find_filter, registered
from chunkfilt.filters.footprints import disk
from chunkfilt.filters.params import expand, plain, shown


def check(name, **params):
    return find_filter(name).validate(params)


def refused(name, **params):
    with pytest.raises(ParameterError) as caught:
        check(name, **params)
    said = str(caught.value)
    assert "\n" not in said
    assert said.startswith(name)
    return said


@pytest.mark.parametrize("number", [np.int64(5), np.uint8(5), 5])
def test_numpys_integers_are_integers(number):
    size = check("mean", size=number)["size"]
    assert size == 5
    assert type(size) is int
    assert check("mean", size=[number, 3])["size"] == (5, 3)


@pytest.mark.parametrize("number", [np.float32(1.5), np.float64(1.5), 1.5])
def test_numpys_floats_are_floats(number):
    sigma = check("gaussian", sigma=number)["sigma"]
    assert sigma == 1.5
    assert type(sigma) is float


@pytest.mark.parametrize("size", [[3, 5], (3, 5), np.array([3, 5])])
def test_one_value_per_axis(size):
    assert check("mean", size=size)["size"] == (3, 5)


def test_an_integer_is_a_number_where_a_float_is_wanted():
    assert check("gaussian", sigma=2)["sigma"] == 2.0
    assert check("gaussian", sigma=[2, 1.5])["sigma"] == (2.0, 1.5)


@pytest.mark.parametrize(
    ("name", "params", "said"),
    [
        ("mean", {"size": True}, "size must be an integer, got True"),
        ("mean", {"size": "5"}, "size must be an integer, got '5'"),
        ("mean", {"size": 5.0}, "size must be an integer, got 5.0"),
        ("mean", {"size": None, "origin": None}, "origin must be"),
        ("mean", {"size": []}, "size must have at least 1 item"),
        ("mean", {"size": [1] * 9}, "size must have at most 8 items"),
        ("mean", {"size": {"a": 1}}, "size must be an integer"),
        ("mean", {"cval": "x"}, "cval must be a number, got 'x'"),
        ("mean", {"mode": 3}, "mode must be one of"),
        ("mean", {"axes": []}, "axes must be an axis or a list of axes"),
        ("mean", {"axes": [True]}, "axes must be a list of axes"),
        ("mean", {"axes": 1.0}, "axes must be an axis"),
        ("mean", {"dtype": "flot32"}, "dtype must be a bool, integer or float dtype"),
        ("mean", {"dtype": "complex128"}, "dtype must be a bool"),
        ("mean", {"dtype": object}, "dtype must be a bool"),
        ("mean", {"footprint": [[0, 0]]}, "at least one 1"),
        ("gaussian", {"sigma": True}, "sigma must be a number, got True"),
        ("gaussian", {"sigma": [1.0, -2.0]}, "sigma[1] must be >= 0"),
        ("gaussian", {"sigma": float("inf")}, "sigma must be a finite number"),
        ("gaussian", {"order": 4}, "order must be <= 3, got 4"),
        ("gaussian", {"truncate": -1.0}, "truncate must be >= 0"),
        ("gaussian", {"radius": -1}, "radius must be >= 0"),
        ("gabor", {"frequency": 0.0}, "frequency must be > 0"),
        ("gabor", {"part": "phase"}, "part must be one of 'real', 'imag' or 'magnitude'"),
        ("gabor_bank", {"frequencies": []}, "frequencies must have at least 1 item"),
        ("gabor_bank", {"thetas": 0.5}, "thetas must be a list"),
        ("gabor_bank", {"frequencies": [0.1, -0.1]}, "frequencies[1] must be > 0"),
        ("histogram", {"range": [0.0]}, "range"),
        ("histogram", {"range": [0.0, float("nan")]}, "range[1] must be a finite number"),
        ("histogram", {"scope": "each"}, "scope must be one of 'batch' or 'all'"),
        ("statistics", {"percentiles": [50.0, 100.5]}, "percentiles[1] must be <= 100"),
        ("equalize_hist", {"nbins": 1 << 21}, "nbins must be <= 1048576"),
        ("equalize_hist", {"mode": "wrap"}, "equalize_hist has no parameter 'mode'"),
        ("abs", {"axes": 0}, "abs has no parameter 'axes'"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_accepted_and_what_came(name, params, said):
    assert said in refused(name, **params)


def test_a_parameter_with_a_typing_error_gets_the_nearest_name():
    said = refused("gaussian", sigam=1.0)
    assert "has no parameter 'sigam' (did you mean 'sigma'?)" in said
    assert "truncate" in said
    assert "did you mean" not in refused("gaussian", qqq=1.0)


def test_a_long_value_is_cut_in_the_message():
    said = refused("mean", size="x" * 10_000)
    assert len(said) < 200


def test_percentiles_may_be_integers():
    assert check("statistics", percentiles=[1, 99])["percentiles"] == (1.0, 99.0)
    assert check("statistics", percentiles=np.array([1, 99]))["percentiles"] == (1.0, 99.0)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("grid-mirror", "reflect"),
        ("grid-wrap", "wrap"),
        ("grid-constant", "constant"),
        ("mirror", "mirror"),
    ],
)
def test_scipys_names_of_modes(given, wanted):
    assert check("mean", mode=given)["mode"] == wanted


@pytest.mark.parametrize("dtype", ["uint8", np.uint8, np.dtype("uint8"), "u1"])
def test_a_dtype_in_any_of_numpys_forms(dtype):
    held = check("mean", dtype=dtype)["dtype"]
    assert isinstance(held, np.dtype)
    assert held == np.uint8


def test_a_footprint_cannot_be_changed_afterwards():
    mine = np.ones((3, 3), dtype=bool)
    held = check("mean", footprint=mine)["footprint"]
    mine[0, 0] = False
    assert held.all()
    with pytest.raises(ValueError, match="read-only"):
        held[0, 0] = False


def test_a_footprint_as_in_yaml():
    held = check("mean", footprint={"disk": 2})["footprint"]
    np.testing.assert_array_equal(held, disk(2))


def test_defaults_are_filled_in():
    held = check("gaussian")
    assert held == {
        "sigma": 1.0,
        "order": 0,
        "truncate": 4.0,
        "radius": None,
        "nan_policy": "propagate",
        "mode": "reflect",
        "cval": 0.0,
        "axes": None,
        "dtype": None,
    }


@pytest.mark.parametrize("name", sorted(registered()))
def test_every_filter_has_a_json_schema(name):
    schema = find_filter(name).model.model_json_schema()
    assert schema["additionalProperties"] is False
    assert set(schema.get("properties", {})) == set(find_filter(name).model.model_fields)


def test_plain_takes_numpy_off():
    assert plain(np.float32(0.5)) == 0.5
    assert type(plain(np.bool_(True))) is bool
    assert plain([np.int8(1), [np.int8(2)]]) == (1, (2,))
    assert plain(np.array([1, 2])) == (1, 2)
    assert plain("text") == "text"


def test_expand():
    assert expand(3, 2, "size") == (3, 3)
    assert expand((3, 4), 2, "size") == (3, 4)
    with pytest.raises(ValueError, match=r"size must be one value or 3 .* got 2: \[3, 4\]"):
        expand((3, 4), 3, "size")


def test_shown_is_one_short_line():
    text = shown(np.zeros((50, 50)))
    assert "\n" not in text
    assert len(text) <= 60
