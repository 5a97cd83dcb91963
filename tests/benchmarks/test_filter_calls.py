"""Every filter has a case in the benchmarks, and computes what it is compared with."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

import chunkfilt.filters  # noqa: F401 - declares every filter
from chunkfilt.filters.filter import registered

pytest.importorskip("skimage")
dask_array = pytest.importorskip("dask.array")

ROOT = Path(__file__).parents[2]
if not (ROOT / "benchmarks").is_dir():
    pytest.skip("the benchmarks are not here", allow_module_level=True)


def _module(name):
    """Import a module of the benchmarks, which are not installed."""
    sys.path.insert(0, str(ROOT))
    try:
        return importlib.import_module(f"benchmarks.{name}")
    finally:
        sys.path.remove(str(ROOT))


calls, images = _module("filter_calls"), _module("cases.images")
BY_FILTER = _module("cases").by_filter()
SHAPE = (88, 96)
# On dask's blocks it takes as long as all others together.
SLOW = "gabor_bank"


@pytest.fixture(scope="module")
def mosaic():
    """Return pixels as a mosaic has them: smooth, with noise, within 993 and 53608."""
    rng = np.random.default_rng(3)
    y, x = np.indices(SHAPE)
    smooth = 28000 + 12000 * np.sin(y / 9) * np.cos(x / 7)
    return np.clip(smooth + 4000 * rng.standard_normal(SHAPE), 993, 53608).astype("uint16")


def declared():
    """Return the names of the image filters that chunkfilt declares itself."""
    return {
        name
        for name, one in registered().items()
        if one.kind != "value" and one.function.__module__.startswith("chunkfilt.filters.")
    }


def test_every_filter_has_a_case():
    missing = sorted(declared() - set(BY_FILTER))
    assert not missing, (
        f"{', '.join(missing)}: add a Case to benchmarks/cases/order.py (orders the pixels of a "
        "window), sums.py (adds them up) or pixels.py (takes them one by one)"
    )


def test_every_case_is_of_a_filter():
    assert not set(BY_FILTER) - declared()


@pytest.mark.parametrize("name", BY_FILTER)
def test_a_filter_agrees_with_its_reference(name, mosaic):
    for case in BY_FILTER[name]:
        for kind in case.kinds:
            given = calls.images_of(case, kind, mosaic)
            plan, call = calls.ours(case, given)
            assert plan().blocks
            difference = calls.apart(case, call(), calls.reference(case, given)())
            assert difference <= case.tolerance, f"{case.title}, {kind}"


@pytest.mark.parametrize("name", [name for name in BY_FILTER if name != SLOW])
def test_dask_computes_the_reference(name, mosaic):
    case = BY_FILTER[name][0]
    given = calls.images_of(case, case.kinds[0], mosaic)
    lazy = [
        dask_array.from_array(one, chunks=(*(1,) * (one.ndim - 2), 44, 48))
        if isinstance(one, np.ndarray)
        else one
        for one in given
    ]
    made, whole = calls.lazy(case, lazy), calls.reference(case, given)()
    assert made.chunks[-2:] == ((44, 44), (48, 48))
    found = made.compute(scheduler="sync")
    assert found.dtype == made.dtype
    # Both are stored alike.
    assert found.dtype == calls.ours(case, given)[1]().dtype
    assert calls.apart(case, found, whole) <= max(case.tolerance, 1e-12)


@pytest.mark.parametrize(
    "name", [name for name in BY_FILTER if any(c.opencv for c in BY_FILTER[name])]
)
def test_opencv_computes_the_same_away_from_the_edge(name, mosaic):
    pytest.importorskip("cv2")
    for case in BY_FILTER[name]:
        # A window of nearly the image leaves nothing.
        margin = min(case.halo, 40)
        for kind in case.kinds:
            given = calls.images_of(case, kind, mosaic)
            call = calls.opencv(case, given)
            if call is None:
                continue
            inner = (slice(margin, -margin),) * 2
            theirs, whole = call(), calls.reference(case, given)()
            assert calls.apart(case, theirs[inner], whole[inner]) < 1e-4, f"{case.title}, {kind}"


@pytest.mark.parametrize("kind", images.KINDS)
def test_images_are_of_their_kind(kind, mosaic):
    made = images.image_of(kind, mosaic)
    assert made.shape[-2:] == SHAPE
    assert made.flags.c_contiguous
    dtypes = {"unit": "float32", "mask": "bool", "gaps": "float32", "channels": "uint16"}
    assert made.dtype == dtypes.get(kind, kind)
    turned = images.image_of(f"turned {kind}", mosaic)
    if kind not in ("channels", "gaps"):
        np.testing.assert_array_equal(turned[::-1, ::-1], made)
    assert np.isnan(made).mean() == (pytest.approx(0.05, abs=0.03) if kind == "gaps" else 0)


def test_nan_are_equal_to_nan_alone():
    case = BY_FILTER["fill_gaps"][0]
    first, second = np.array([1.0, np.nan, 4.0]), np.array([1.0, np.nan, 5.0])
    assert calls.apart(case, first, second) == pytest.approx(0.2)
    assert calls.apart(case, np.nan_to_num(first), second) == np.inf


def test_a_plan_computes_the_same_again(mosaic):
    case = BY_FILTER["equalize_hist"][0]
    _, call = calls.ours(case, [mosaic])
    np.testing.assert_array_equal(call(), call())
