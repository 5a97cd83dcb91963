"""Correlation and convolution against scipy.ndimage on float64."""

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from scipy import ndimage

import chunkfilt as cf
from chunkfilt.engine.bind import bind
from chunkfilt.engine.evaluate import evaluate_region
from chunkfilt.engine.graph import Source
from chunkfilt.errors import ParameterError
from chunkfilt.grid import ImageSpec, Region

BOTH = ["correlate", "convolve"]
MODES = ["reflect", "mirror", "nearest", "constant", "wrap"]
SCIPY = {"constant": "grid-constant", "wrap": "grid-wrap"}
DTYPES = ["bool", "uint8", "int16", "float16", "float32", "int32", "uint64", "float64"]
RNG = np.random.default_rng(0)
CROSS = np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]])
TILED = RNG.normal(size=(17, 14))


def noise(shape, dtype="float64"):
    pixels = np.random.default_rng(2).random(shape) * 200
    return pixels > 100 if dtype == "bool" else pixels.astype(dtype)


def scipys(name, image, weights, mode="reflect", **options):
    function = getattr(ndimage, name)
    return function(image.astype(np.float64), weights, mode=SCIPY.get(mode, mode), **options)


def close(result, expected, tolerance=1e-6):
    scale = max(np.abs(expected).max(initial=0), 1e-30)
    np.testing.assert_allclose(result, expected, rtol=0, atol=tolerance * scale)


def node_of(name, pixels, **params):
    reader = type("Memory", (), {"read": lambda self, region: pixels[region.slices]})()
    axes = ("z", "y", "x")[-pixels.ndim :]
    source = Source(ImageSpec(pixels.shape, pixels.dtype, axes, tuple(range(pixels.ndim))), reader)
    return bind(getattr(cf, name).filter, [source], params)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", BOTH)
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_windows_origins_and_axes(name, mode, data):
    shape = data.draw(st.sampled_from([(40,), (21, 34), (8, 9, 35)]))
    window = data.draw(st.tuples(*[st.integers(1, 5)] * len(shape)))
    origin = tuple(data.draw(st.integers(-(n // 2), (n - 1) // 2)) for n in window)
    weights = np.random.default_rng(sum(window)).normal(size=window)
    weights[np.abs(weights) < data.draw(st.sampled_from([0.0, 0.3]))] = 0.0
    image = noise(shape)
    result = getattr(cf, name)(image, weights=weights, origin=origin, mode=mode, cval=3.0)
    close(result, scipys(name, image, weights, mode, origin=origin, cval=3.0), 1e-12)


MAKES = {
    "separable": np.outer(RNG.normal(size=9), RNG.normal(size=8)),
    "2 separable terms": RNG.normal(size=(12, 2)) @ RNG.normal(size=(2, 13)),
    "5 weights": CROSS,
    "30 weights": RNG.normal(size=(6, 5)),
    "0 weights": np.zeros((3, 4)),
    "Fourier tiles": TILED,
}


@pytest.mark.parametrize("make", MAKES)
@pytest.mark.parametrize("name", BOTH)
def test_every_way_gives_the_same(name, make):
    image, weights = noise((120, 150)), MAKES[make]
    node = node_of(name, image, weights=weights)
    assert node.prepared["how"].startswith(make)
    assert node.filter.rules.cost(node.resolved, node.prepared) > 0
    assert node.filter.rules.memory(node.resolved, (1, 9, 9), image.dtype) >= 0
    for mode in ("reflect", "wrap"):
        expected = scipys(name, image, weights, mode, origin=(-1, 1))
        result = getattr(cf, name)(image, weights=weights, mode=mode, origin=(-1, 1))
        close(result, expected, 1e-11)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("weights", [CROSS, TILED, MAKES["separable"]], ids=len)
def test_every_dtype(dtype, weights):
    image = noise((40, 50), dtype)
    result = cf.correlate(image, weights=weights)
    wide = dtype in ("int32", "uint64", "float64")
    assert result.dtype == (np.float64 if wide else np.float32)
    close(result, scipys("correlate", image, weights))


def test_integers_are_summed_exactly():
    image = RNG.integers(0, 1 << 16, (30, 40)).astype(np.uint16)
    weights = RNG.integers(-9, 9, (4, 4))
    expected = ndimage.correlate(image.astype(np.int64), weights)
    assert_array_equal(cf.correlate(image, weights=weights), expected.astype(np.float32))
    assert_array_equal(cf.correlate(image.astype(np.int32), weights=weights), expected)
    signed = ndimage.correlate(image.astype(np.int64), weights).clip(-32768, 32767)
    assert_array_equal(cf.correlate(image, weights=weights, dtype="int16"), signed)


def test_batch_axes():
    stack = noise((3, 12, 13))
    result = cf.convolve(stack, weights=[[1, 2], [3, 4]], axes=(1, 2))
    for one, image in zip(result, stack, strict=True):
        close(one, scipys("convolve", image, [[1, 2], [3, 4]]))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("make", MAKES)
def test_a_nan_reaches_the_weights_above_rounding(make, bad):
    weights = MAKES[make] + 0.0
    weights[0, 1] *= 1e-17
    image = noise((80, 90), "float32")
    clean = cf.correlate(image, weights=weights)
    image[40, 30] = bad
    result = cf.correlate(image, weights=weights)
    alone = np.zeros(image.shape)
    alone[40, 30] = 1.0
    weighed = np.abs(scipys("correlate", alone, weights)) > 2.2e-16
    assert_array_equal(~np.isfinite(result), weighed)
    close(result[~weighed], clean[~weighed])


@pytest.mark.parametrize("make", MAKES)
def test_a_block_has_no_say(make):
    pixels = noise((150, 170), "float32")
    pixels[5, 5] = np.nan
    node = node_of("correlate", pixels, weights=MAKES[make], mode="mirror")
    whole = evaluate_region(node, Region.whole(pixels.shape))
    for start, stop in [((0, 0), (1, 1)), ((3, 2), (99, 160)), ((131, 7), (150, 170))]:
        region = Region(start, stop)
        assert_array_equal(evaluate_region(node, region), whole[region.slices])


GAUSSIAN = ndimage.gaussian_filter(np.pad([[1.0]], 8), 2.0, mode="constant")
Y, X = np.mgrid[-3:4, -3:4]
DISK = (Y * Y + X * X <= 9) / 29.0


@pytest.mark.parametrize(
    ("maker", "weights"),
    [
        ({"box": 5}, np.ones((5, 5)) / 25),
        ({"box": [2, 3]}, np.ones((2, 3)) / 6),
        ({"disk": 3}, DISK),
        ({"gaussian": 2.0}, GAUSSIAN),
        ({"gaussian": [0, 2]}, GAUSSIAN.sum(axis=0, keepdims=True)),
        ({"laplacian": 4}, CROSS),
        ({"laplacian": 8}, np.ones((3, 3)) - 9 * np.pad([[1]], 1)),
        ("sharpen", np.pad([[1]], 1) - CROSS),
        ("emboss", [[-2, -1, 0], [-1, 1, 1], [0, 1, 2]]),
    ],
)
def test_makers_and_names(maker, weights):
    image = noise((30, 31))
    for name in BOTH:
        close(
            getattr(cf, name)(image, weights=maker), scipys(name, image, np.array(weights)), 1e-12
        )


def test_makers_for_any_number_of_axes():
    line, volume = noise((30,)), noise((7, 8, 9))
    close(cf.correlate(line, weights={"box": 3}), ndimage.uniform_filter1d(line, 3))
    close(cf.correlate(volume, weights={"box": 3}), ndimage.uniform_filter(volume, 3))
    close(cf.correlate(volume, weights={"gaussian": 0.7}), ndimage.gaussian_filter(volume, 0.7))
    cells = sum(g * g for g in np.mgrid[-2:3, -2:3, -2:3]) <= 4
    close(cf.correlate(volume, weights={"ball": 2}), scipys("correlate", volume, cells / 33))


@pytest.mark.parametrize(
    ("given_as", "written"),
    [
        ({"disk": 3}, {"disk": 3}),
        ({"gaussian": (1.0, 2.0)}, {"gaussian": [1.0, 2.0]}),
        ("sharpen", "sharpen"),
        (CROSS, CROSS.tolist()),
        ([[0.1, 1e-300], [3, -0.7]], [[0.1, 1e-300], [3.0, -0.7]]),
        (np.array([True, False, True]), [1, 0, 1]),
        ([1, 2, 1], [1, 2, 1]),
    ],
)
def test_weights_go_round_through_yaml(given_as, written):
    held = cf.correlate.filter
    checked = held.validate({"weights": given_as})
    dumped = held.dump(checked)
    assert dumped == {"weights": written}
    again = held.validate(yaml.safe_load(yaml.safe_dump(dumped)))
    assert_array_equal(again["weights"], checked["weights"])
    assert held.dump(again) == dumped


def test_weights_from_a_file(tmp_path):
    path, image = tmp_path / "w.npy", noise((20, 20))
    for order in ("C", "F"):
        np.save(path, np.asarray(TILED, np.float32, order=order))
        close(cf.correlate(image, weights=str(path)), scipys("correlate", image, TILED))
    path.unlink()
    with pytest.raises(ParameterError, match=r"a \.npy file of numbers that can be read"):
        cf.correlate(image, weights=str(path))
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(ParameterError, match=r"a \.npy file of numbers that can be read"):
        cf.correlate(image, weights=str(path))
    np.save(path, np.array([{"a": 1}], object), allow_pickle=True)
    with pytest.raises(ParameterError, match=r"a \.npy file of numbers that can be read"):
        cf.correlate(image, weights=str(path))


@pytest.mark.parametrize(
    ("weights", "problem"),
    [
        ([1, 2, 1], r"weights must have 2 axes .* got 1 from \[1, 2, 1\]"),
        ({"ball": 2}, r"weights must have 2 axes .* got 3 from \{'ball': 2\}"),
        ({"box": [3]}, "weights must have 2 axes .* got 1"),
        ([[1, 2], [3]], "real numbers along 1 to 3 axes"),
        ([[1, 2j]], "real numbers along 1 to 3 axes"),
        ([["a"]], "real numbers along 1 to 3 axes"),
        ([[]], "real numbers along 1 to 3 axes"),
        (7, "real numbers along 1 to 3 axes"),
        (None, "real numbers along 1 to 3 axes"),
        (np.ones((1, 1, 1, 1)), "real numbers along 1 to 3 axes"),
        ([[1, np.nan]], "must be finite"),
        (np.ones((1, 1002)), "at most 1001 weights a side, not 1002"),
        ("blur", "must be nested lists of numbers, the path of a .npy file"),
        ({"blur": 3}, "or a maker such as"),
        ({"box": 3, "disk": 2}, "or a maker such as"),
        ({"box": 0}, "box takes a side of 1 to 1001"),
        ({"box": 2.5}, "box takes a side of 1 to 1001"),
        ({"gaussian": -1}, "gaussian takes a sigma of 0 to 125"),
        ({"gaussian": "wide"}, "gaussian takes a sigma"),
        ({"gaussian": []}, "gaussian takes a sigma"),
        ({"laplacian": 6}, "laplacian takes 4 or 8"),
        ({"laplacian": [4]}, "laplacian takes 4 or 8"),
        ({"disk": "big"}, "r must be a number"),
    ],
)
def test_mistakes(weights, problem):
    with pytest.raises(ParameterError, match=problem):
        cf.correlate(noise((9, 9)), weights=weights)


@pytest.mark.parametrize("origin", [2, -2, (0, 2)])
def test_origins_out_of_range(origin):
    with pytest.raises(ParameterError, match="origin must be within -1 and 1 for 3 weights"):
        cf.convolve(noise((9, 9)), weights=CROSS, origin=origin)


def test_weights_are_required():
    with pytest.raises(ParameterError, match="weights is required"):
        cf.correlate(noise((9, 9)))


def test_the_schema_names_the_makers():
    schema = cf.correlate.filter.model.model_json_schema()["properties"]["weights"]
    assert "gaussian" in schema["description"]
    assert {"enum": ["sharpen", "emboss"]} in schema["oneOf"]
