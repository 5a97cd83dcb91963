"""The cases that every contract runs over: made from the declarations and `tests.examples`."""

import dataclasses
from typing import Any

import numpy as np
import pytest

import chunkfilt as cf
import chunkfilt.filters
from chunkfilt.engine.bind import bind
from chunkfilt.engine.graph import Source, Value, plain_axes
from chunkfilt.engine.plan import Layout, make_plan
from chunkfilt.errors import ParameterError
from chunkfilt.filters import texture
from chunkfilt.filters.filter import registered
from chunkfilt.grid import ImageSpec
from chunkfilt.kernels import correlation, fourier
from chunkfilt.runtime.executors import make_executor
from chunkfilt.runtime.passes import run_passes
from chunkfilt.runtime.progress import silent
from tests.examples import EXAMPLES, along

DTYPES = ("uint8", "float64")


class Memory:
    """Pixels that may only be read."""

    def __init__(self, array):
        self.array = array
        self.array.flags.writeable = False
        # Blocks may be of any size.
        self.chunks = (1,) * array.ndim

    def read(self, region):
        """Return the pixels of a region inside the image."""
        return self.array[region.slices]


@dataclasses.dataclass(frozen=True)
class Case:
    """A filter with parameters, and how to try it."""

    filter: object
    params: dict
    masked: bool = False

    def __str__(self):
        told = {k: getattr(v, "__name__", v) for k, v in self.params.items()}
        given = ",".join(f"{k}={v}"[:40] for k, v in told.items()) or "defaults"
        return f"{self.filter.name}-{given}{'-masked' * self.masked}".replace(" ", "")

    @property
    def name(self):
        """The filter's name."""
        return self.filter.name

    @property
    def modes(self):
        """The modes the filter takes; one without meaning where it takes none."""
        every = ("reflect", "mirror", "nearest", "constant", "wrap")
        return every if "mode" in self.filter.model.model_fields else (None,)

    def images(self, shape, dtype, seed=0):
        """Return as many images as the filter needs."""
        rng = np.random.default_rng(seed)
        count = len(self.filter.inputs) if self.masked else self.filter.required
        images = [(rng.random(shape) * 200).astype(dtype) for _ in range(count)]
        if self.name.startswith("binary_"):
            # Few, half or most of the pixels: structures fit here and miss there.
            thirds = sum(3 * i // n for i, n in zip(np.indices(shape), shape, strict=True)) % 3
            images[0] *= rng.random(shape) < np.array([0.03, 0.5, 0.97])[thirds]
        if self.masked:
            images[-1] = rng.random(shape) > 0.2
        left_out = self.filter.rules.omits == "always" or self.params.get("nan_policy") == "omit"
        if left_out and images[0].dtype.kind == "f":
            images[0][rng.random(shape) < 0.2] = np.nan
        return images

    def parameters(self, ndim):
        """Return the parameters for so many spatial axes."""
        return along(self.params, ndim)

    def bind(self, images, spatial=None, mode=None, **more):
        """Return the bound node over images in memory."""
        ndim = images[0].ndim
        spatial = tuple(range(ndim)) if spatial is None else spatial
        sources = [
            Source(ImageSpec(a.shape, a.dtype, plain_axes(ndim), spatial), Memory(a))
            for a in images
        ]
        given = {**self.parameters(len(spatial)), **more}
        if mode is not None and self.modes != (None,):
            given["mode"] = mode
        return bind(self.filter, sources, given)

    def accepts(self, shape, dtype, spatial=None):
        """Return whether the filter takes such images."""
        try:
            self.bind(self.images(shape, dtype), spatial)
        except ParameterError:
            return False
        return True

    @property
    def dtypes(self):
        """Those of DTYPES that the filter takes."""
        return [dtype for dtype in DTYPES if self.accepts((5, 5), dtype)]


def sweep(node, block, scheduler="serial"):
    """Compute a node over blocks of that size, as a run does: values first, then the image."""
    outputs = {"it": node}
    layouts, stores, result = {}, {}, None
    if not isinstance(node, Value):
        layouts["it"] = Layout(node.spec, (1,) * len(node.spec.grid), 0)
        result = np.empty(node.spec.shape, node.spec.dtype)
        result.view("u1")[...] = 0xA5
        stores["it"] = Array(result)
    # An axis that a step has taken away is none of the result's.
    block = block[len(block) - len(node.spec.grid) :] if result is not None else block
    # Every block is walked in strips of half of its rows.
    image = node.image.spec
    rows = image.grid.index(image.spatial[0]) if image.spatial else 0
    strip = tuple(-(-b // 2) if axis == rows else b for axis, b in enumerate(block))
    plan = make_plan(
        outputs, layouts, budget=1 << 62, workers=2, base=0, block=block, strip=strip, keep=False
    )
    shape = plan.grid_shape
    assert plan.block == tuple(min(b, n) for b, n in zip(block, shape, strict=True))
    assert all(s <= min(b, n) for s, b, n in zip(plan.strip, strip, shape, strict=True))
    executor = make_executor(scheduler, 2, memory=1 << 30)
    try:
        found, _ = run_passes(plan.steps, stores, executor, silent)
    finally:
        executor.close()
    return found[node] if result is None else result


class Array:
    """Writes blocks into an array; a block's dtype must be the array's."""

    def __init__(self, array):
        self.array = array

    def write(self, region, data):
        """Store the pixels of a region."""
        assert data.dtype == self.array.dtype
        self.array[region.slices] = data
        return ()


def assert_same(a, b):
    """Assert that two results are the same to the last bit: arrays, or tuples of them."""
    if isinstance(a, tuple):
        assert type(a) is type(b)
        assert len(a) == len(b)
        for one, other in zip(a, b, strict=True):
            assert_same(one, other)
        return
    a, b = np.asarray(a), np.asarray(b)
    if a.dtype == object:
        assert_same(tuple(a), tuple(b))
        return
    assert a.dtype == b.dtype
    assert a.shape == b.shape
    assert np.array_equal(a, b, equal_nan=a.dtype.kind == "f")


def own_filters():
    """Return the filters that chunkfilt itself declares."""
    return {
        name: held
        for name, held in registered().items()
        if held.function.__module__.startswith("chunkfilt.filters.")
    }


def cases_of(held):
    """Return a filter's cases: its examples, windows of every make, and with a mask."""
    examples = EXAMPLES.get(held.name, [{}])
    cases = [Case(held, example) for example in examples]
    fields = held.model.model_fields
    needed = {name: value for name, value in examples[0].items() if fields[name].is_required()}
    windows: list[dict[str, Any]] = []
    if {"size", "origin"} <= set(held.own):
        windows += [{"size": 4}, {"size": 5, "origin": 2}, {"size": 4, "origin": -2}]
    if "footprint" in held.own:
        windows.append({"footprint": "crooked"})
    cases += [Case(held, {**needed, **window}) for window in windows]
    if held.required < len(held.inputs):
        masked = [Case(held, example, masked=True) for example in examples]
        # A derivative, say, has no meaning without some of its pixels.
        cases += masked[:1] + [case for case in masked[1:] if case.accepts((5, 5), "uint8")]
    if "nan_policy" in held.model.model_fields:
        cases.append(Case(held, {**examples[0], "nan_policy": "omit"}))
    return cases


def pytest_generate_tests(metafunc):
    """Give a test every filter or every case of a kind, by the name of its argument."""
    filters = own_filters()
    if "declared" in metafunc.fixturenames:
        metafunc.parametrize("declared", list(filters.values()), ids=list(filters))
    kinds = {
        "case": ("neighbourhood", "pointwise", "composite", "value"),
        "image_case": ("neighbourhood", "pointwise", "composite"),
        "window_case": ("neighbourhood",),
        "value_case": ("value",),
    }
    for argument, wanted in kinds.items():
        if argument in metafunc.fixturenames:
            cases = [
                case for held in filters.values() if held.kind in wanted for case in cases_of(held)
            ]
            metafunc.parametrize(argument, cases, ids=str)


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    """Make the tiles of Fourier transforms smaller than the images here."""
    monkeypatch.setattr(fourier, "_LENGTHS", {32: 4.0, 1728: 1000.0})
    for chosen in (texture._chosen, correlation._chosen):
        chosen.cache_clear()
    yield
    for chosen in (texture._chosen, correlation._chosen):
        chosen.cache_clear()


@pytest.fixture(autouse=True)
def functions_allowed():
    """Let parameters name functions, as `generic` takes them from YAML."""
    with cf.allow_code():
        yield


@pytest.fixture
def compute():
    """Compute a node over blocks of one size."""
    return sweep


@pytest.fixture
def same():
    """Assert that two results are the same to the last bit."""
    return assert_same


@pytest.fixture
def cases_for():
    """Return a filter's cases."""
    return cases_of
