"""The evaluator: block by block is the whole image, and the whole image is scipy step by step."""

import itertools

import numpy as np
import pytest
from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view
from scipy import ndimage, signal
from skimage.filters import gabor_kernel

from chunkfilt.engine.bind import bind
from chunkfilt.engine.evaluate import cast, demand, evaluate, evaluate_region, extract
from chunkfilt.engine.graph import Source, crop
from chunkfilt.filters.declare import image_filter
from chunkfilt.filters.filter import find_filter
from chunkfilt.grid import Blocks, ImageSpec, Region

PAD = {
    "reflect": "symmetric",
    "mirror": "reflect",
    "nearest": "edge",
    "constant": "constant",
    "wrap": "wrap",
}
MODES = sorted(PAD)
STATISTICS = {
    "mean": lambda w: w.mean(-1),
    "variance": lambda w: w.var(-1),
    "maximum": lambda w: w.max(-1),
    "minimum": lambda w: w.min(-1),
    "median": lambda w: np.sort(w, -1)[..., w.shape[-1] // 2],
}
GABOR = {"sigma_x": 1.0, "sigma_y": 1.5, "n_stds": 2.0}
FREQUENCIES, THETAS = (0.2, 0.4), (0.0, 0.7)


class Memory:
    """Pixels that may only be read; keeps which were."""

    def __init__(self, array):
        self.array = array.copy()
        self.array.flags.writeable = False
        self.before = array.copy()
        self.regions = []

    def read(self, region):
        assert all(
            0 <= a <= b <= n
            for a, b, n in zip(region.start, region.stop, self.array.shape, strict=True)
        )
        self.regions.append(region)
        return self.array[region.slices]


def source(array, spatial=None):
    spatial = tuple(range(array.ndim)) if spatial is None else spatial
    spec = ImageSpec(array.shape, array.dtype, tuple("tczyx"[5 - array.ndim :]), spatial)
    return Source(spec, Memory(array))


def node(name, *inputs, **params):
    return bind(find_filter(name), inputs, params)


def pad(image, halo, mode, cval):
    options = {"constant_values": cval} if mode == "constant" else {}
    return np.pad(image, halo, mode=PAD[mode], **options)


def window_oracle(name, image, spatial, size, origin, mode, cval):
    halo = [(0, 0)] * image.ndim
    for axis, n, o in zip(spatial, size, origin, strict=True):
        halo[axis] = (n // 2 + o, n - 1 - n // 2 - o)
    view = sliding_window_view(pad(image, halo, mode, cval), size, spatial)
    return STATISTICS[name](view.reshape(*image.shape, -1))


def gaussian_oracle(image, spatial, sigma, mode, cval):
    halo = [(0, 0)] * image.ndim
    every = [0.0] * image.ndim
    for axis, s in zip(spatial, sigma, strict=True):
        halo[axis], every[axis] = (int(4 * s + 0.5),) * 2, s
    smooth = ndimage.gaussian_filter(pad(image, halo, mode, cval), every)
    return smooth[tuple(slice(b, n - a) for (b, a), n in zip(halo, smooth.shape, strict=True))]


def bank_oracle(image, mode, cval):
    """The magnitude of every response of a bank, on one plane."""
    responses = []
    for theta, frequency in itertools.product(THETAS, FREQUENCIES):
        kernel = gabor_kernel(frequency, theta=theta, **GABOR)
        half = [(n // 2, n // 2) for n in kernel.shape]
        around = pad(image, half, mode, cval)
        responses.append(np.abs(signal.convolve2d(around, kernel, mode="valid")))
    return np.reshape(responses, (len(THETAS), len(FREQUENCIES), *image.shape))


@st.composite
def shapes(draw, ndim):
    return tuple(draw(st.integers(1, {1: 20, 2: 11, 3: 5}[ndim])) for _ in range(ndim))


class Program:
    """Steps applied to a node and to an array at the same time."""

    def __init__(self, draw, image, spatial):
        self.draw = draw
        self.spatial = spatial
        self.held = [(source(image, spatial), image.astype(np.float64))]

    def edge(self):
        mode = self.draw(st.sampled_from(MODES))
        return {"mode": mode, "cval": self.draw(st.sampled_from([0.0, 2.5]))}

    def pick(self):
        return self.held[self.draw(st.integers(0, len(self.held) - 1))]

    def window(self):
        one, array = self.pick()
        name = self.draw(st.sampled_from(sorted(STATISTICS)))
        size = [self.draw(st.sampled_from([1, 2, 3, 4, 5, 9])) for _ in self.spatial]
        origin = [-(n // 2) + self.draw(st.integers(0, n - 1)) for n in size]
        edge = self.edge()
        result = window_oracle(name, array, self.spatial, size, origin, *edge.values())
        return node(name, one, size=size, origin=origin, **edge), result

    def smooth(self):
        one, array = self.pick()
        sigma = [self.draw(st.sampled_from([0.0, 0.6, 1.3, 3.0])) for _ in self.spatial]
        edge = self.edge()
        result = gaussian_oracle(array, self.spatial, sigma, *edge.values())
        return node("gaussian", one, sigma=sigma, **edge), result

    def combine(self):
        one, array = self.pick()
        same = [held for held in self.held if held[1].shape == array.shape]
        other, further = same[self.draw(st.integers(0, len(same) - 1))]
        if self.draw(st.booleans()):
            return node("subtract", one, other), array - further
        return node("add", one, 1.5), array + 1.5

    def crop(self):
        one, array = self.pick()
        ranges = {}
        for axis in range(array.ndim):
            start = self.draw(st.integers(0, array.shape[axis] - 1))
            ranges[axis] = (start, self.draw(st.integers(start + 1, array.shape[axis])))
        return crop(one, ranges), array[tuple(slice(*ranges[a]) for a in range(array.ndim))]

    def step(self):
        kind = self.draw(st.sampled_from(["window", "smooth", "combine", "window", "crop"]))
        self.held.append(getattr(self, kind)())


@st.composite
def programs(draw):
    """Return every node of a random graph, and its array by the oracle."""
    ndim = draw(st.sampled_from([2, 2, 1, 3]))
    shape = draw(shapes(ndim))
    batch = draw(st.sampled_from([(), (), (2,)]))
    seed = draw(st.integers(0, 1000))
    image = np.random.default_rng(seed).normal(size=(*batch, *shape)) * 3
    spatial = tuple(range(len(batch), len(batch) + ndim))
    program = Program(draw, image, spatial)
    for _ in range(draw(st.integers(1, 5))):
        program.step()
    return program.held


def in_blocks(targets, block):
    """Compute targets of one shape together, block by block."""
    results = [np.empty(one.spec.shape, one.spec.dtype) for one in targets]
    written = np.zeros(targets[0].spec.grid_shape, dtype=int)
    for here in Blocks(targets[0].spec.grid_shape, block):
        regions = [one.spec.from_grid(here) for one in targets]
        wanted = {one: r.runs for one, r in zip(targets, regions, strict=True)}
        patches = evaluate(wanted)
        for one, region, result in zip(targets, regions, results, strict=True):
            result[region.slices] = extract(one, patches[one], region)
        written[here.slices] += 1
    assert (written == 1).all()
    return results


def whole(one):
    return evaluate_region(one, Region.whole(one.spec.shape))


def assert_same(result, expected):
    assert result.dtype == expected.dtype
    assert np.array_equal(result, expected, equal_nan=result.dtype.kind == "f")


def blocks_of(data, shape):
    """Draw a block that cuts the image into a few dozen pieces at most."""
    return tuple(data.draw(st.integers(max(1, -(-n // 3)), n + 2)) if n else 1 for n in shape)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(programs(), st.data())
def test_random_graphs_block_by_block_and_step_by_step(held, data):
    last = held[-1][0]
    targets = [one for one, _ in held[1:] if one.spec.shape == last.spec.shape]
    event(f"{len(targets)} targets of {len(held) - 1} steps")
    wholes = [whole(one) for one in targets]
    for result, expected in zip(
        in_blocks(targets, blocks_of(data, last.spec.shape)), wholes, strict=True
    ):
        assert_same(result, expected)
    arrays = {id(one): array for one, array in held}
    scale = max(1.0, *(np.abs(array).max() for _, array in held))
    for one, result in zip(targets, wholes, strict=True):
        assert result.dtype == np.float64
        assert np.abs(result - arrays[id(one)]).max() <= 1e-6 * scale
    assert np.array_equal(held[0][0].reader.array, held[0][0].reader.before)


@settings(max_examples=15, deadline=None)
@given(st.data(), st.sampled_from(MODES), st.sampled_from(MODES))
def test_a_bank_and_its_mean(data, mode, mean_mode):
    shape = data.draw(shapes(2))
    image = np.random.default_rng(3).normal(size=shape)
    edge = {"mode": mode, "cval": 0.5}
    bank = node(
        "gabor_bank", source(image), frequencies=FREQUENCIES, thetas=THETAS, **GABOR, **edge
    )
    mean = node("mean", bank, size=(3, 4), mode=mean_mode)
    difference = node("subtract", bank, mean)
    assert mean.spec.leading == (0, 1)
    targets = [bank, mean, difference]
    wholes = [whole(one) for one in targets]
    for result, expected in zip(in_blocks(targets, blocks_of(data, shape)), wholes, strict=True):
        assert_same(result, expected)
    expected = bank_oracle(image, *edge.values())
    scale = np.abs(expected).max()
    assert np.abs(wholes[0] - expected).max() <= 1e-5 * scale
    smooth = window_oracle("mean", expected, (2, 3), (3, 4), (0, 0), mean_mode, 0.0)
    assert np.abs(wholes[1] - smooth).max() <= 1e-5 * scale
    assert np.abs(wholes[2] - (expected - smooth)).max() <= 2e-5 * scale


@settings(max_examples=25, deadline=None)
@given(st.data(), st.sampled_from(["uint8", "float64"]), st.sampled_from(["batch", "all"]))
def test_a_whole_image_value_behind_and_before_other_steps(data, dtype, scope):
    shape = (data.draw(st.integers(1, 3)), *data.draw(shapes(2)))
    image = (np.random.default_rng(1).random(shape) * 200).astype(dtype)
    first = node("maximum", source(image, (1, 2)), size=(2, 3))
    equal = node("equalize_hist", first, scope=scope)
    last = node("variance", equal, size=3, mode="wrap")
    targets = [equal, last]
    wholes = [whole(one) for one in targets]
    for result, expected in zip(in_blocks(targets, blocks_of(data, shape)), wholes, strict=True):
        assert_same(result, expected)
    largest = window_oracle("maximum", image, (1, 2), (2, 3), (0, 0), "reflect", 0)
    if dtype == "uint8":
        parts = [largest] if scope == "all" else list(largest)
        shares = [[np.mean(part <= v) for v in part.ravel()] for part in parts]
        assert_same(wholes[0], np.reshape(shares, shape))


@pytest.mark.parametrize("first", [0, 1, 5])
def test_values_of_the_planes_that_wrap_reaches_round_to(first):
    stack = (np.random.default_rng(6).random((7, 4, 5)) * 200).astype(np.uint8)
    equal = node("equalize_hist", source(stack, (1, 2)))
    mean = node("mean", equal, size=5, axes=0, mode="wrap")
    planes = np.stack([np.searchsorted(np.sort(p.ravel()), p, side="right") / 20 for p in stack])
    expected = window_oracle("mean", planes, (0,), (5,), (0,), "wrap", 0)[first]
    result = evaluate_region(mean, Region((first, 0, 0), (first + 1, 4, 5)))[0]
    np.testing.assert_allclose(result, expected, rtol=1e-12)


@settings(max_examples=40, deadline=None)
@given(st.data(), st.sampled_from(["uint8", "float64"]))
@example(None, "uint8")
def test_a_halo_many_times_the_image(data, dtype):
    shape = (1, 1) if data is None else data.draw(shapes(2))
    mode = "mirror" if data is None else data.draw(st.sampled_from(MODES))
    image = (np.random.default_rng(2).random(shape) * 200).astype(dtype)
    mean = node("mean", source(image), size=(41, 30), mode=mode)
    expected = window_oracle("mean", image.astype(float), (0, 1), (41, 30), (0, 0), mode, 0.0)
    result = whole(mean)
    assert np.abs(result - expected).max() <= 1e-6 * np.abs(expected).max()
    if data is not None:
        assert_same(in_blocks([mean], blocks_of(data, shape))[0], result)


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0, 0)])
def test_an_image_without_pixels_gives_one_without_pixels(shape):
    mean = node("mean", node("gaussian", source(np.zeros(shape))), size=3)
    assert whole(mean).shape == shape
    assert evaluate_region(mean, Region((0, 0), (0, 0))).shape == (0, 0)


def recorded(name, **rules):
    """Return a filter that keeps where it was called, and that list."""
    calls = []

    @image_filter(halo=lambda p: ((1, 1),) * p.ndim, name=name, **rules)
    def spy(block, *, origin_px):
        core = block[:, 1:-1, 1:-1]
        calls.append(
            Region(origin_px, tuple(o + n for o, n in zip(origin_px, core.shape[1:], strict=True)))
        )
        assert block.flags.c_contiguous
        assert not block.flags.writeable
        return core + 1.0

    return spy, calls


@pytest.mark.parametrize("region", [Region((8, 8), (16, 16)), Region((0, 0), (8, 8))])
def test_a_node_with_several_users_is_computed_once(region):
    spy, calls = recorded("_spied")
    x = bind(spy, [source(np.random.default_rng(0).random((24, 24)))], {})
    mean = node("mean", x, size=3)
    wide = node("maximum", x, size=(9, 1))
    last = node("add", node("subtract", x, mean), wide)
    evaluate_region(last, region)
    assert len(calls) == 1


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_no_pixel_is_computed_twice_where_wrap_reaches_round(data):
    spy, calls = recorded("_spied_round")
    shape = data.draw(shapes(2))
    x = bind(spy, [source(np.zeros(shape))], {"mode": "wrap"})
    last = node("add", node("mean", x, size=(4, 3), mode="wrap"), x)
    start = [data.draw(st.integers(0, n - 1)) for n in shape]
    stop = [data.draw(st.integers(a + 1, n)) for a, n in zip(start, shape, strict=True)]
    evaluate_region(last, Region(tuple(start), tuple(stop)))
    seen = np.zeros(shape, dtype=int)
    for region in calls:
        seen[region.slices] += 1
    assert seen.max() == 1


def test_only_what_is_needed_is_read():
    image = source(np.zeros((100, 100)))
    last = node("mean", node("gaussian", image, radius=2), size=(3, 4))
    evaluate_region(last, Region((50, 50), (60, 60)))
    assert image.reader.regions == [Region((47, 46), (63, 63))]


def test_wrap_reads_the_two_sides_and_not_what_is_between():
    image = source(np.zeros((100, 4)))
    evaluate_region(node("mean", image, size=(5, 1), mode="wrap"), Region((0, 0), (10, 4)))
    rows = sorted((r.start[0], r.stop[0]) for r in image.reader.regions)
    assert rows == [(0, 12), (98, 100)]


def test_what_lies_behind_a_known_value_is_not_asked_for():
    equal = node("equalize_hist", source(np.zeros((64, 64), "uint8")))
    (levels,) = equal.values.values()
    wanted = {equal: (((0, 8),), ((0, 8),))}
    order, runs = demand(wanted, {levels: None})
    assert runs[id(order[0])] == [((0, 8),), ((0, 8),)]
    _, runs = demand(wanted)
    assert runs[id(order[0])] == [((0, 64),), ((0, 64),)]


def test_inner_axes_may_be_batch_axes():
    image = np.random.default_rng(4).random((6, 3, 7))
    mean = node("mean", source(image), size=(3, 2), axes=(0, 2), mode="mirror")
    expected = np.stack(
        [window_oracle("mean", image[:, i], (0, 1), (3, 2), (0, 0), "mirror", 0) for i in range(3)],
        axis=1,
    )
    np.testing.assert_allclose(whole(mean), expected, rtol=1e-12)
    assert_same(in_blocks([mean], (4, 2, 3))[0], whole(mean))


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int32", "int64", "uint64"])
def test_casts_round_half_to_even_and_saturate(dtype):
    info = np.iinfo(dtype)
    floats = np.array([0.5, 1.5, 2.5, 1e300, -1e300, np.inf, -np.inf, np.nan, 3.49, 3.51])
    expected = [0, 2, 2, info.max, info.min, info.max, info.min, 0, 3, 4]
    result = cast(floats, np.dtype(dtype))
    assert result.dtype == dtype
    assert result.tolist() == expected


@pytest.mark.parametrize("held", ["int64", "uint64", "int8", "uint16"])
@pytest.mark.parametrize("wanted", ["int64", "uint64", "int8", "uint8", "int32"])
def test_integer_casts_saturate(held, wanted):
    info, limits = np.iinfo(held), np.iinfo(wanted)
    values = [v for v in (info.min, -1, 0, 1, 200, info.max) if info.min <= v <= info.max]
    expected = [min(max(v, limits.min), limits.max) for v in values]
    assert cast(np.array(values, dtype=held), np.dtype(wanted)).tolist() == expected


@pytest.mark.parametrize("dtype", ["int64", "uint64"])
def test_floats_next_to_the_end_of_64_bits_do_not_wrap(dtype):
    limit = np.iinfo(dtype).max
    below = np.nextafter(float(limit), 0)
    floats = np.array([below, float(limit), np.nextafter(float(limit), np.inf)])
    result = cast(floats, np.dtype(dtype))
    assert result.tolist() == [int(below), limit, limit]


def test_a_value_within_the_block_beside_a_filter_along_the_batch_axis():
    data = np.random.default_rng(5).integers(0, 50, (6, 9, 8)).astype("uint8")
    image = source(data)
    equal = bind(find_filter("equalize_hist"), [image], {"axes": ("y", "x")})
    across = bind(find_filter("median"), [image], {"axes": ("z",), "size": 3})
    both = bind(find_filter("subtract"), [equal, across], {})
    whole = evaluate_region(both, Region.whole(both.spec.shape))
    for block in Blocks(both.spec.shape, (2, 9, 8)):
        np.testing.assert_array_equal(evaluate_region(both, block), whole[block.slices])


@image_filter(
    halo=lambda p: ((2, 2), (1, 1)),
    tile=lambda p, prepared: prepared["tile"],
    prepare=lambda p: {"tile": p.side},
    leading=lambda p: (("copy", 2),),
)
def _in_tiles(
    block: np.ndarray, *, side: tuple[int, int] | None = (4, 3), tile, origin_px
) -> np.ndarray:
    """Give the pixel and the mean of its tile's window, which only whole tiles know."""
    core = np.array(block.shape[1:]) - (4, 2)
    inner = block[:, 2:-2, 1:-1]
    means = np.empty(inner.shape)
    assert all(first % n == 0 for first, n in zip(origin_px, tile, strict=True))
    for y, x in itertools.product(*(range(0, n, t) for n, t in zip(core, tile, strict=True))):
        seen = block[:, y : y + tile[0] + 4, x : x + tile[1] + 2]
        means[:, y : y + tile[0], x : x + tile[1]] = seen.mean(axis=(1, 2), keepdims=True)
    return np.stack([inner, means], axis=1)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_a_filter_in_tiles_is_given_whole_ones(data):
    shape = data.draw(st.tuples(st.integers(1, 3), st.integers(1, 13), st.integers(1, 11)))
    side = data.draw(st.tuples(st.integers(1, 6), st.integers(1, 6)))
    image = np.random.default_rng(0).integers(0, 200, shape).astype(np.float64)
    mode = data.draw(st.sampled_from(MODES))
    tiled = bind(_in_tiles, [source(image, (1, 2))], {"side": side, "mode": mode})
    size = data.draw(st.integers(1, 5))
    first = crop(tiled, {0: (0, shape[0]), 1: (1, 2)}, {1})
    graph = [tiled, first, node("mean", first, size=size, mode=data.draw(st.sampled_from(MODES)))]
    again = bind(_in_tiles, [graph[2]], {"side": side, "mode": "wrap"})
    graph.append(again)
    whole = [evaluate_region(one, Region.whole(one.spec.shape)) for one in graph]
    padded = pad(image, [(0, 0), (2, 2), (1, 1)], mode, 0.0)
    for y, x in itertools.product(*(range(0, n, t) for n, t in zip(shape[1:], side, strict=True))):
        seen = padded[:, y : y + side[0] + 4, x : x + side[1] + 2]
        rows, columns = slice(y, y + side[0]), slice(x, x + side[1])
        expected = np.broadcast_to(seen.mean(axis=(1, 2))[:, None, None], (shape[0], 1, 1))
        np.testing.assert_allclose(
            whole[0][:, 1, rows, columns],
            np.broadcast_to(expected, whole[0][:, 1, rows, columns].shape),
        )
    np.testing.assert_array_equal(whole[0][:, 0], image)
    for _ in range(3):
        wanted = {}
        for one in graph:
            ends = [
                sorted((data.draw(st.integers(0, n)), data.draw(st.integers(0, n))))
                for n in one.spec.shape
            ]
            wanted[one] = Region(*(tuple(end) for end in zip(*ends, strict=True)))
        wanted = {one: region for one, region in wanted.items() if region.size}
        patches = evaluate({one: region.runs for one, region in wanted.items()})
        for one, region in wanted.items():
            part = extract(one, patches[one], region)
            np.testing.assert_array_equal(part, whole[graph.index(one)][region.slices])
