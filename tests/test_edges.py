"""The index table and the extension at the edge, against numpy.pad."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from chunkfilt.edges import MODES, gather, mode_name, needed_runs, source_index
from chunkfilt.grid import Region, boxes, run_length

PAD = {
    "reflect": "symmetric",
    "mirror": "reflect",
    "nearest": "edge",
    "constant": "constant",
    "wrap": "wrap",
}
MODE = st.sampled_from(MODES)
CVAL = -7


def padded(image, halo, mode):
    """Return the image with `halo` pixels around it on every side."""
    options = {"constant_values": CVAL} if mode == "constant" else {}
    return np.pad(image, halo, mode=PAD[mode], **options)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_source_index_is_numpy_pad(mode, n):
    halo = 9 * n + 4
    expected = padded(np.arange(n), halo, mode)
    index = source_index(-halo, n + halo, n, mode)
    assert_array_equal(np.where(index < 0, CVAL, index), expected)


@pytest.mark.parametrize("mode", MODES)
def test_by_hand(mode):
    letters = {
        "reflect": "dcbaabcddcba",
        "mirror": "cdcbabcdcbab",
        "nearest": "aaaaabcddddd",
        "constant": "....abcd....",
        "wrap": "abcdabcdabcd",
    }
    index = source_index(-4, 8, 4, mode)
    assert "".join("." if i < 0 else "abcd"[i] for i in index) == letters[mode]


@settings(max_examples=100, deadline=None)
@given(MODE, st.integers(1, 9), st.integers(-60, 60), st.integers(0, 70))
def test_any_interval_is_a_part_of_the_padded_axis(mode, n, start, length):
    halo = 150
    expected = padded(np.arange(n), halo, mode)[start + halo : start + halo + length]
    index = source_index(start, start + length, n, mode)
    assert_array_equal(np.where(index < 0, CVAL, index), expected)
    # What must be read is exactly what is shown: nothing missing, nothing more.
    runs = needed_runs(start, start + length, n, mode)
    shown = sorted(set(index[index >= 0].tolist()))
    assert [i for a, b in runs for i in range(a, b)] == shown


def test_an_unknown_mode_is_refused_by_name():
    with pytest.raises(ValueError, match="'sideways'"):
        source_index(-1, 3, 4, "sideways")


def test_scipys_names_are_understood():
    assert mode_name("grid-wrap") == "wrap"
    assert mode_name("grid-mirror") == "reflect"
    assert mode_name("grid-constant") == "constant"
    assert [mode_name(mode) for mode in MODES] == list(MODES)


@st.composite
def wanted_regions(draw):
    """An image's shape, and a region that may reach far beyond it."""
    shape = draw(st.lists(st.integers(1, 6), min_size=1, max_size=3))
    start = [draw(st.integers(-20, 20)) for _ in shape]
    stop = [a + draw(st.integers(0, 12)) for a in start]
    return tuple(shape), Region(tuple(start), tuple(stop))


def pack(image, runs):
    """Return the pixels of a product of runs, as a node would hold them."""
    packed = np.empty([run_length(along) for along in runs], image.dtype)
    for region, place in boxes(runs):
        packed[place] = image[region.slices]
    return packed


@settings(max_examples=150, deadline=None)
@given(wanted_regions(), MODE, st.data())
def test_gather_is_a_part_of_the_padded_image(case, mode, data):
    shape, wanted = case
    image = np.arange(np.prod(shape)).reshape(shape)
    halo = 40
    expected = padded(image, halo, mode)[wanted.shift([halo] * len(shape)).slices]
    runs = [
        needed_runs(a, b, n, mode) for a, b, n in zip(wanted.start, wanted.stop, shape, strict=True)
    ]
    if data.draw(st.booleans(), label="the whole image is held"):
        runs = [((0, n),) for n in shape]
    packed = pack(image, runs)
    packed.flags.writeable = False
    result = gather(packed, runs, wanted, shape, mode, CVAL)
    assert result.shape == wanted.shape
    assert_array_equal(result, expected)


def test_gather_away_from_the_edge_copies_nothing():
    image = np.arange(100).reshape(10, 10)
    runs = [((2, 9),), ((0, 10),)]
    held = image[2:9]
    result = gather(held, runs, Region((3, 1), (6, 9)), (10, 10), "wrap")
    assert np.shares_memory(result, image)
    assert_array_equal(result, image[3:6, 1:9])


@pytest.mark.parametrize("mode", MODES)
def test_gather_keeps_the_dtype_and_the_value_beyond(mode):
    image = np.array([[1, 2], [3, 250]], dtype=np.uint8)
    whole = [((0, 2),), ((0, 2),)]
    result = gather(image, whole, Region((-1, -3), (2, 3)), (2, 2), mode, np.uint8(9))
    options = {"constant_values": 9} if mode == "constant" else {}
    expected = np.pad(image, ((1, 0), (3, 1)), mode=PAD[mode], **options)
    assert result.dtype == np.uint8
    assert_array_equal(result, expected)


def test_a_region_wholly_beyond_the_edge_shows_the_constant():
    image = np.ones((3, 3))
    wanted = Region((-9, 1), (-5, 3))
    runs = [needed_runs(-9, -5, 3, "constant"), ((1, 3),)]
    assert runs[0] == ()
    result = gather(pack(image, runs), runs, wanted, (3, 3), "constant", CVAL)
    assert_array_equal(result, np.full((4, 2), CVAL))
