"""What every declared filter keeps to, whoever wrote it.  The cases come from ``conftest.py``."""

import pickle
import warnings

import numpy as np
import pytest
import zarr

import chunkfilt as cf
from chunkfilt.engine.bind import bind
from chunkfilt.engine.evaluate import evaluate_region
from chunkfilt.engine.graph import Filtered, Source, Value
from chunkfilt.errors import InputError, ParameterError
from chunkfilt.grid import Region
from chunkfilt.runtime.layout import OutputOptions
from chunkfilt.runtime.run import RunOptions, run
from chunkfilt.runtime.tables import value_document
from chunkfilt.storage.images import open_image

# Shape, spatial axes, and blocks: uneven ones, and ones thinner than most halos.
LAYOUTS = {
    "1d": ((23,), None, [(7,), (2,)]),
    "2d": ((13, 17), None, [(5, 7), (13, 2), (1, 17)]),
    "3d": ((5, 7, 6), None, [(2, 3, 6), (5, 2, 4)]),
    "batch": ((3, 9, 8), (1, 2), [(2, 4, 5), (1, 9, 2)]),
    "inner": ((8, 2, 9), (0, 2), [(3, 1, 5), (8, 2, 2)]),
    "batches": ((3, 4, 5, 6), (2, 3), [(2, 3, 3, 6), (1, 4, 5, 2)]),
    "tiny": ((2, 3), None, [(1, 2), (2, 1)]),
}


def whole(node):
    """Compute an image in one piece."""
    return evaluate_region(node, Region.whole(node.spec.shape))


def public(case):
    """Return the function that users call."""
    return getattr(cf, case.name)


def test_every_filter_has_a_case_that_works(declared, cases_for):
    cases = cases_for(declared)
    for case in cases:
        ndims = [n for n in (1, 2, 3) if case.accepts((5,) * n, "uint8")]
        ndims += [n for n in (1, 2, 3) if case.accepts((5,) * n, "float64")]
        assert ndims, (
            f"{case} cannot be bound to any image: give {declared.name} an entry in EXAMPLES of "
            "tests/contracts/conftest.py"
        )
    assert cases


@pytest.mark.parametrize("layout", LAYOUTS)
def test_chunked_is_whole(case, layout, compute, same):
    shape, spatial, blocks = LAYOUTS[layout]
    dtypes = [d for d in case.dtypes if case.accepts(shape, d, spatial)]
    if not dtypes:
        plane = case.accepts((5, 5), case.dtypes[0])
        assert plane, f"{case} takes neither a line nor a plane nor a volume"
        pytest.skip("the filter does not take such images")
    for number, mode in enumerate(case.modes):
        # Every mode, and every dtype with one mode at least.
        for dtype in dtypes if number == 0 else [dtypes[number % len(dtypes)]]:
            node = case.bind(case.images(shape, dtype), spatial, mode)
            expected = compute(node, tuple(shape))
            if not isinstance(node, Value):
                same(whole(node), expected)
            for block in blocks:
                same(compute(node, block), expected)


def test_one_executor_is_as_good_as_another(case, compute, same):
    images = case.images((40, 33), case.dtypes[-1])
    node = case.bind(images)
    same(compute(node, (7, 9), "threads"), compute(node, (16, 33), "serial"))


def test_the_declared_dtype_is_the_dtype(image_case):
    for dtype in ("bool", "uint8", "int64", "float16", "float32", "float64"):
        if not image_case.accepts((6, 7), dtype):
            continue
        images = image_case.images((6, 7), dtype)
        node = image_case.bind(images)
        assert node.spec.dtype.isnative
        result = public(image_case)(*images, **image_case.parameters(2))
        assert result.dtype == node.spec.dtype
        assert result.shape == node.spec.shape


def test_a_dtype_that_is_asked_for_is_given(image_case):
    for dtype in ("uint8", "float32"):
        if image_case.params.get("dtype", dtype) == dtype:
            images = image_case.images((6, 7), image_case.dtypes[0])
            parameters = {**image_case.parameters(2), "dtype": dtype}
            assert public(image_case)(*images, **parameters).dtype == dtype


def reach(node, axis):
    """Return the halo along an axis of the image, and that axis of the output."""
    return node.halo[axis], axis + len(node.leading) * (axis >= node.lead_at)


def test_the_halo_is_enough_and_no_more(window_case):
    dtype = window_case.dtypes[-1]
    shape = (40, 41) if window_case.accepts((40, 41), dtype) else (40,)
    images = window_case.images(shape, dtype)
    if window_case.filter.rules.omits == "always":
        images[0][...] = np.nan
    before = whole(window_case.bind([a.copy() for a in images], mode="nearest")).astype(float)
    others = [window_case.images(shape, dtype, seed)[0] for seed in range(1, 9)]
    uniform = (1e6, -1e6, 0.0) if dtype == "float64" else (255, 0)
    for axis in range(len(shape)):
        node = window_case.bind([a.copy() for a in images], mode="nearest")
        (back, ahead), out = reach(node, axis)
        # A tile is rounded as a whole.
        rounding = 1e-6 if max(node.tile) > 1 else 0.0
        at = shape[axis] // 2
        changed = np.zeros(before.shape[out], bool)
        for value in (*uniform, *(np.moveaxis(one, axis, 0)[at] for one in others)):
            other = [a.copy() for a in images]
            np.moveaxis(other[0], axis, 0)[at] = value
            after = whole(window_case.bind(other, mode="nearest")).astype(float)
            equal = (np.abs(after - before) <= rounding) | (np.isnan(after) & np.isnan(before))
            differs = np.moveaxis(~equal, out, 0)
            changed |= differs.reshape(before.shape[out], -1).any(axis=1)
            if changed[at - ahead] and changed[at + back]:
                break
        # The changed pixels lie `back` behind the last output they reach.
        hit = np.flatnonzero(changed)
        assert hit[0] >= at - ahead, f"the halo of {ahead} after the core is too small"
        assert hit[-1] <= at + back, f"the halo of {back} before the core is too small"
        assert hit[0] == at - ahead, f"the halo of {ahead} after the core is larger than needed"
        assert hit[-1] == at + back, f"the halo of {back} before the core is larger than needed"


@pytest.mark.parametrize("noise", [np.nan, np.inf, 1e300, -1e17])
def test_what_lies_outside_core_and_halo_changes_nothing(window_case, noise):
    shape, dtype = (36, 37), window_case.dtypes[-1]
    spatial = (0, 1) if window_case.accepts(shape, dtype) else (1,)
    images = window_case.images(shape, dtype)
    if dtype != "float64":
        noise = {np.inf: 255, -1e17: 0}.get(noise, 77)
    node = window_case.bind([a.copy() for a in images], spatial)
    core = Region((15, 16), (19, 22))
    # What the node needs for the core: its halo and, where it works in tiles, the tiles' own.
    ends = [along[0] for along in node.needs((*[((0, 1),)] * len(node.leading), *core.runs))]
    seen = Region(*zip(*ends, strict=True))
    assert seen != Region.whole(shape)
    for image in images:
        inside = image[seen.slices].copy()
        image[...] = noise
        image[seen.slices] = inside
    noisy = window_case.bind(images, spatial)
    index = (..., *core.slices)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = whole(noisy)[index]
    assert np.array_equal(result, whole(node)[index])
    assert np.isfinite(result).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_nan_goes_no_further_than_the_window(window_case, bad):
    shape = (30, 31)
    if "float64" not in window_case.dtypes:
        pytest.skip("the filter takes no floats")
    images = window_case.images(shape, "float64")
    node = window_case.bind([a.copy() for a in images], mode="mirror")
    images[0][15, 16] = images[0][0, 30] = bad
    spread = np.zeros(shape, bool)
    halo = [node.halo[axis] for axis in (0, 1)]
    for at in ((15, 16), (0, 30)):
        around = [
            slice(max(c - after, 0), c + before + 1)
            for c, (before, after) in zip(at, halo, strict=True)
        ]
        spread[tuple(around)] = True
    # Under `mirror` the pixel in the corner shows within its own window only.
    result, clean = whole(window_case.bind(images, mode="mirror")), whole(node)
    lead = (slice(None),) * len(node.leading)
    outside, expected = result[(*lead, ~spread)], clean[(*lead, ~spread)]
    if max(node.tile) > 1:
        # A tile is rounded as a whole.
        assert np.allclose(outside, expected, rtol=0, atol=1e-9)
    else:
        assert np.array_equal(outside, expected)
    assert result.shape == clean.shape


def test_the_input_is_left_as_it_was(case):
    for dtype in case.dtypes:
        images = case.images((9, 10), dtype)
        copies = [a.copy() for a in images]
        first = public(case)(*images, **case.parameters(2))
        for image in images:
            image.flags.writeable = False
        second = public(case)(*images, **case.parameters(2))
        for image, copy in zip(images, copies, strict=True):
            np.testing.assert_array_equal(image, copy)
        if not isinstance(first, tuple):
            np.testing.assert_array_equal(first, second)
            assert not any(np.shares_memory(first, image) for image in images)


def test_views_of_any_layout_give_the_same(image_case, same):
    function, parameters = public(image_case), image_case.parameters(2)
    images = image_case.images((12, 13), image_case.dtypes[-1])
    expected = function(*images, **parameters)
    same(function(*(np.asfortranarray(a) for a in images), **parameters), expected)
    wide = [np.repeat(np.repeat(a, 2, 0), 3, 1)[::2, ::3] for a in images]
    same(function(*wide, **parameters), expected)


def test_parameters_go_round_through_their_written_form(case):
    held = case.filter
    checked = held.validate(case.parameters(2))
    written = held.dump(checked)
    plain = (bool, int, float, str, list, dict, type(None))
    assert all(type(value) in plain for value in written.values())
    again = held.validate(written)
    assert held.dump(again) == written
    for name, value in checked.items():
        np.testing.assert_array_equal(again[name], value)
    # An unknown one never passes.
    with pytest.raises(ParameterError, match="has no parameter 'nonsense'"):
        held.validate({**written, "nonsense": 1})


def test_a_bound_node_travels_and_computes_the_same(case, compute, same):
    node = case.bind(case.images((11, 12), case.dtypes[-1]))
    copy = pickle.loads(pickle.dumps(node))
    assert copy.filter is node.filter
    if isinstance(node, Filtered):
        assert copy.spec == node.spec
        assert copy.halo == node.halo
    same(compute(copy, (5, 5)), compute(node, (5, 5)))


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0, 0), (3, 0, 4)])
def test_images_without_pixels(case, shape):
    spatial = (len(shape) - 2, len(shape) - 1)
    for dtype in case.dtypes:
        if not case.accepts(shape, dtype, spatial):
            continue
        images = case.images(shape, dtype)
        parameters = case.parameters(2)
        if "axes" in case.filter.model.model_fields:
            parameters["axes"] = spatial
        if case.filter.kind == "value":
            with pytest.raises(InputError, match="without pixels has no value"):
                public(case)(*images, **parameters)
            continue
        result = public(case)(*images, **parameters)
        node = case.bind(images, spatial)
        assert result.shape == node.spec.shape
        assert result.dtype == node.spec.dtype
        assert result.size == 0


def test_an_image_of_one_pixel(case, compute, same):
    for dtype in case.dtypes:
        if not case.accepts((1, 1), dtype):
            continue
        images = [np.array([[7]], dtype) for _ in case.images((1, 1), dtype)]
        for mode in case.modes:
            node = case.bind(images, None, mode)
            result = compute(node, (1, 1))
            same(compute(node, (3, 3)), result)
            if not isinstance(node, Value):
                assert np.isfinite(result.astype(np.float64)).all()
                assert set(result.shape[node.lead_at + len(node.leading) :]) <= {1}


def test_a_kept_intermediate_changes_no_pixel(tmp_path, same):
    pixels = (np.random.default_rng(5).random((70, 90)) * 60000).astype("uint16")
    held = zarr.create_array(str(tmp_path / "in.zarr"), data=pixels, chunks=(16, 16))
    assert held.shape == pixels.shape
    image = open_image(tmp_path / "in.zarr")
    node, expected = Source(image.spec, image), pixels
    for _ in range(12):
        node = bind(cf.gaussian.filter, [node], {"mode": "wrap"})
        expected = cf.gaussian(expected, mode="wrap")
    node = bind(cf.equalize_hist.filter, [node], {})
    result = run({"": node}, tmp_path / "out.zarr", group=False)
    same(zarr.open_array(str(tmp_path / "out.zarr"), mode="r")[...], cf.equalize_hist(expected))
    assert "keep gaussian" in result.plan.passes[0]
    assert not (tmp_path / "out.zarr.run" / "intermediate").exists()


def stored(case, folder, chunks):
    """Return the filter over images stored in a folder, with the given chunks."""
    dtype = case.dtypes[-1]
    arrays = case.images((37, 41), dtype)
    sources = []
    for number, data in enumerate(arrays):
        path = folder / f"{number}.zarr"
        held = zarr.create_array(
            str(path), shape=data.shape, dtype=data.dtype, chunks=chunks, dimension_names=("y", "x")
        )
        held[...] = data
        image = open_image(path)
        sources.append(Source(image.spec, image))
    bound = case.bind([a.copy() for a in arrays])
    return type(bound), sources, arrays


def test_from_store_to_store_is_numpy(case, tmp_path, same):
    checksums = set()
    for number, (chunks, cut, scheduler) in enumerate(
        [((16, 12), None, "serial"), ((37, 41), (8, 24), "threads")]
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        kind, sources, arrays = stored(case, folder, chunks)
        node = bind(case.filter, sources, case.parameters(2))
        assert isinstance(node, kind)
        expected = public(case)(*arrays, **case.parameters(2))
        # A step may have taken an axis away.
        axes = 2 if isinstance(node, Value) else len(node.spec.grid)
        wanted = cut and cut[2 - axes :]
        options = {
            "output": OutputOptions(chunks=wanted),
            "options": RunOptions(scheduler=scheduler, workers=2 if number else None),
        }
        if isinstance(node, Value):
            result = run({"value": node}, folder / "out.zarr", group=True, **options)
            assert result.values["value"] == value_document(expected)
            continue
        result = run({"": node}, folder / "out.zarr", group=False, **options)
        written = zarr.open_array(str(folder / "out.zarr"), mode="r")
        same(written[...], expected)
        assert written.chunks[-axes:] == (wanted or chunks[2 - axes :])
        assert result.plan.blocks > 1 or cut is None
        checksums.add(result.checksums[""])
    assert len(checksums) <= 1
