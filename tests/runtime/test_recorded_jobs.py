"""The job that a run records is the same run: what `repair` and `rerun` rely on."""

import json

import numpy as np
import pytest
import zarr

import chunkfilt as cf
from chunkfilt.arrays.job import document_beside, split_options, stored_as
from chunkfilt.config import check_job
from chunkfilt.documents import Document
from chunkfilt.errors import ChunkfiltError
from chunkfilt.filters.filter import registered
from chunkfilt.filters.generic import allow_code
from chunkfilt.storage.zarr_output import run_folder
from tests.contracts.conftest import Case
from tests.examples import EXAMPLES
from tests.runtime.test_fingerprint import SHAPE, fingerprint_of, mark_of, nodes_of, told


@pytest.fixture
def image(tmp_path, make_store, make_pixels):
    return cf.open(make_store(tmp_path / "in", make_pixels(SHAPE), dims="yx"))


def through_yaml(images, place, **options):
    """Return the fingerprint of the job that a run records, as `repair` builds it."""
    group, outputs = isinstance(images, dict), nodes_of(images)
    stored = stored_as(options, split_options(outputs, options)[0])
    document = document_beside(outputs, place, group, stored)
    assert document is not None
    with allow_code():
        held = Document("job", json.loads(json.dumps(document)))
        built = check_job(held, run_folder(place)).build()
    outputs = built.outputs if group else dict(zip([""], built.outputs.values(), strict=True))
    return fingerprint_of(outputs, built.output, built.options)


JOBS = {
    "one": cf.mean,
    "source": lambda m: m,
    "composites": lambda m: cf.white_tophat(m, size=3) - cf.closing(m, size=5),
    "shared": lambda m: {
        "b": (m - cf.mean(m, size=5)) / cf.std(m, size=5), "a": cf.mean(m, size=5) + m,
    },
    "values": lambda m: {"s": cf.statistics(cf.mean(m)), "m": cf.equalize_hist(m)},
    "numbers": lambda m: m * np.float32(0.1) + np.int64(3) - np.uint8(2) * True,
    "left": lambda m: 3.5 - m,
    "nan": lambda m: cf.mean(m, mode="constant", cval=float("nan")),
    "footprint": lambda m: cf.median(m, footprint=cf.disk(3)),
    "array": lambda m: cf.median(m, footprint=np.array([[True, False], [True, True]])),
    "weights": lambda m: cf.correlate(m, weights=np.array([[0.1, 1 / 3], [2.0, -1e-300]])),
    "tuples": lambda m: cf.gaussian(m, sigma=(1, 0.5), order=(0, 1)),
    "dtype": lambda m: cf.cast(cf.mean(m, dtype=np.float64), dtype=np.dtype("int16")),
    "axes": lambda m: cf.gaussian(m, sigma=1, axes=["x"]),
    "function": lambda m: cf.generic(m, function=np.ptp),
}  # fmt: skip


@pytest.mark.parametrize("name", JOBS)
@pytest.mark.parametrize("options", [{}, {"chunks": 8, "shards": (16, 24), "compressor": "none"}])
def test_the_recorded_job_is_the_same_run(image, tmp_path, name, options):
    made = JOBS[name](image)
    assert not told(mark_of(made, **options), through_yaml(made, tmp_path / "o", **options))


@pytest.mark.parametrize("name", list(registered()))
def test_the_recorded_job_of_every_filter_is_the_same_run(
    tmp_path_factory, tmp_path, make_store, name
):
    declared = registered()[name]
    rng = np.random.default_rng(0)
    dims = "cyx" if name == "mix_channels" else "yx"
    for dtype in ("uint8", "float64"):
        data = (rng.random((3, 9, 10)[-len(dims) :]) * 9).astype(dtype)
        stored = [
            cf.open(make_store(tmp_path / f"{dtype}{i}", data, dims=dims))
            for i in range(declared.required)
        ]
        for params in EXAMPLES.get(name, [{}]):
            given = Case(declared, params).parameters(2)
            try:
                made = getattr(cf, name)(*stored, **given)
            except ChunkfiltError:
                continue
            images = {name: made} if declared.kind == "value" else made
            assert not told(mark_of(images), through_yaml(images, tmp_path / "o")), params


def test_inputs_of_all_kinds(tmp_path, make_store, make_pixels):
    path = make_store(tmp_path / "z", make_pixels((2, 9, 9)), dims="tyx")
    group = tmp_path / "g"
    zarr.create_group(str(group))
    make_store(group / "a", make_pixels((9, 9)))
    for made in (
        cf.mean(cf.open(path, spatial=["t", "y", "x"])),
        cf.mean(cf.open(path, axes=["a", "b", "c"], spatial=["b"])),
        cf.mean(cf.open(path, nodata=5)),
        cf.mean(cf.open(path, missing="error")),
        cf.mean(cf.open(group, "a")),
        cf.subtract(cf.open(group, "a"), cf.open(path).crop(t=0)),
        cf.mean(cf.open(group, "a"), cf.open(path).crop(t=0) > 3),
    ):
        assert not told(mark_of(made), through_yaml(made, tmp_path / "o"))
