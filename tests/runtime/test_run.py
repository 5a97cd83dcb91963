"""Runs from store to store: the same pixels however they are cut and scheduled."""

import csv
import json
import os
import subprocess
import sys
import textwrap
from collections import Counter

import numpy as np
import pytest
import zarr
from scipy import ndimage

import chunkfilt as cf
from chunkfilt.engine.graph import Source
from chunkfilt.errors import BudgetError, InputError, RunError, StoppedError, UnfinishedWarning
from chunkfilt.runtime import run
from chunkfilt.storage.images import open_image

SHAPE = (61, 83)
CUTS = {
    "one": {},
    "thin": {"chunks": (4, 83)},
    "odd": {"chunks": (7, 9)},
    "sharded": {"chunks": (5, 6), "shards": (15, 24)},
    "serial": {"scheduler": "serial", "chunks": (16, 16)},
    "workers": {"workers": 5, "chunks": (8, 8)},
    "codec": {"compressor": "none", "chunks": (33, 20)},
}


def graph(image):
    """Return neighbourhoods, a whole-image value behind one, and several inputs."""
    smooth = cf.gaussian(image, sigma=1.5)
    return {
        "even": cf.equalize_hist(smooth),
        "score": (image - cf.mean(image, size=7)) / cf.std(image, size=7),
        "rank": cf.median(image, size=4, mode="wrap"),
    }


def checksums(path, target, **options):
    with np.errstate(all="ignore"):
        return cf.save(graph(cf.open(path)), target, progress=False, **options).checksums


@pytest.fixture(scope="module")
def sources(tmp_path_factory, make_store, make_pixels):
    """The same pixels in four stores: chunks, shards, Zarr v2; and what they must give."""
    folder = tmp_path_factory.mktemp("sources")
    data = make_pixels(SHAPE)
    kinds = {"a": {"chunks": (16, 16)}, "b": {"chunks": (61, 3)}, "d": {"zarr_format": 2},
             "c": {"chunks": (5, 10), "shards": (20, 30)}}  # fmt: skip
    paths = {k: make_store(folder / k, data, **options) for k, options in kinds.items()}
    return paths, checksums(paths["a"], folder / "reference", scheduler="serial"), data


@pytest.mark.parametrize("cut", CUTS)
def test_the_checksum_does_not_depend_on_the_output(sources, tmp_path, cut):
    assert checksums(sources[0]["a"], tmp_path / "o", **CUTS[cut]) == sources[1]


@pytest.mark.parametrize("source", "bcd")
def test_the_checksum_does_not_depend_on_the_input(sources, tmp_path, source):
    assert checksums(sources[0][source], tmp_path / "o") == sources[1]


def test_the_checksum_depends_on_every_pixel_and_its_place(tmp_path, make_store, make_pixels):
    data = make_pixels((20, 20))
    other, swapped = data.copy(), data.copy()
    other[13, 7] ^= 1
    swapped[[3, 4]] = swapped[[4, 3]]
    sums = [
        cf.open(make_store(tmp_path / str(i), one)).save(tmp_path / f"o{i}", progress=False)
        for i, one in enumerate((data, other, swapped, data.T.copy()))
    ]
    assert len({s.checksums[""] for s in sums}) == 4


def test_the_pixels_are_those_of_the_whole_image(sources, tmp_path):
    paths, _, data = sources
    checksums(paths["a"], tmp_path / "o", chunks=(9, 11))
    got = zarr.open_group(str(tmp_path / "o"))
    expected = ndimage.median_filter(data, size=4, mode="wrap")
    np.testing.assert_array_equal(got["rank"][:], expected)
    wide = data.astype(float)
    mean = ndimage.uniform_filter(wide, 7)
    spread = np.sqrt(ndimage.uniform_filter((wide) ** 2, 7) - mean**2)
    np.testing.assert_allclose(got["score"][:], (wide - mean) / spread, rtol=1e-4, atol=1e-4)


def test_block_shapes(sources, tmp_path):
    from chunkfilt.runtime.run import plan_run

    image = cf.open(sources[0]["a"])
    nodes = {name: one.node for name, one in graph(image).items()}
    for chunks in ((4, 4), (61, 83)):
        result = cf.save(graph(image), tmp_path / str(chunks), chunks=chunks, progress=False)
        assert result.checksums == sources[1]
        for have, unit, n in zip(result.plan.block, chunks, SHAPE, strict=True):
            assert have % unit == 0 or have >= n
    assert plan_run(nodes)[0].grid_shape == SHAPE


def test_a_stack_with_batch_axes(tmp_path, make_store, make_pixels):
    data = make_pixels((2, 3, 20, 30))
    path = make_store(tmp_path / "s", data, chunks=(1, 2, 8, 30), dims=["t", "c", "y", "x"])
    image = cf.open(path)
    found = set()
    for number, chunks in enumerate([None, (2, 3, 20, 30), (1, 1, 7, 7), (2, 1, 20, 5)]):
        out = tmp_path / f"o{number}"
        made = cf.equalize_hist(cf.gaussian(image, sigma=1))
        found.add(made.save(out, chunks=chunks, progress=False).checksums[""])
    assert len(found) == 1
    held = zarr.open_array(str(tmp_path / "o2"))
    assert held.metadata.dimension_names == ("t", "c", "y", "x")
    assert all(held[t, c].max() == 1 for t in range(2) for c in range(3))


@pytest.mark.parametrize("address", [False, True])
def test_distributed_gives_the_same(sources, tmp_path, address):
    distributed = pytest.importorskip("distributed")
    options = {"scheduler": "distributed", "workers": 2, "chunks": (16, 16)}
    if not address:
        assert checksums(sources[0]["a"], tmp_path / "o", **options) == sources[1]
        return
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0", host="127.0.0.1"
    ) as cluster:
        given = {**options, "address": cluster.scheduler_address}
        assert checksums(sources[0]["a"], tmp_path / "o", **given) == sources[1]


class Counting:
    """A reader that counts how often each pixel is read."""

    def __init__(self, held):
        self.held, self.chunks = held, held.chunks
        self.regions, self.count = [], np.zeros(held.spec.shape, int)

    def read(self, region):
        self.regions.append(region)
        self.count[region.slices] += 1
        return self.held.read(region)


def test_several_outputs_from_one_sweep(sources, tmp_path):
    reader = Counting(open_image(sources[0]["a"]))
    image = cf.Image(Source(reader.held.spec, reader))
    outputs = {
        "mean": cf.mean(image, size=5),
        "var": cf.variance(image, size=5),
        "score": (image - cf.mean(image, size=5)) / 2,
        "max": cf.maximum(image, size=5),
    }
    result = cf.save(outputs, tmp_path / "o", chunks=(16, 16), scheduler="serial", progress=False)
    assert len(result.plan.passes) == 1
    blocks = list(result.plan.grid)
    # An image that is no file is also read in full, for the run's fingerprint.
    assert len(reader.regions) == len(blocks) + 1
    expected = np.ones(SHAPE, int)
    for block in blocks:
        grown = zip(block.start, block.stop, SHAPE, strict=True)
        expected[tuple(slice(max(a - 2, 0), min(b + 2, n)) for a, b, n in grown)] += 1
    np.testing.assert_array_equal(reader.count, expected)


def test_one_more_sweep_for_a_value(sources, tmp_path):
    reader = Counting(open_image(sources[0]["a"]))
    image = cf.Image(Source(reader.held.spec, reader))
    result = cf.equalize_hist(image).save(tmp_path / "o", scheduler="serial", progress=False)
    assert len(result.plan.passes) == 2
    # Once for its fingerprint, once for the value, once for the image.
    assert (reader.count == 3).all()


@cf.image_filter(name="_failing", halo=lambda p: ((1, 1),) * p.ndim)
def failing(block, *, at: int = 0, origin_px):
    if origin_px[-1] >= at:
        message = "a kernel went wrong"
        raise ZeroDivisionError(message)
    return block[:, 1:-1, 1:-1]


@pytest.mark.parametrize("scheduler", ["serial", "threads"])
def test_an_error_in_a_block_leaves_the_output_unfinished(sources, tmp_path, scheduler):
    image = failing(cf.open(sources[0]["a"]), at=0)
    said = r"blocks failed, 3 times each: .*: a kernel went wrong; the rest of .*o\.zarr.*--resume"
    with pytest.raises(StoppedError, match=said):
        image.save(tmp_path / "o.zarr", chunks=(8, 8), progress=False, scheduler=scheduler,
                   memory="8 GiB")  # fmt: skip
    assert zarr.open_array(str(tmp_path / "o.zarr")).attrs["chunkfilt"]["finished"] is False
    with pytest.warns(UnfinishedWarning):
        cf.open(tmp_path / "o.zarr")


def test_a_damaged_input_chunk_stops_the_run(tmp_path, make_store, make_pixels):
    path = make_store(tmp_path / "in.zarr", make_pixels((32, 32)))
    (path / "c" / "1" / "1").write_bytes(b"damage")
    with pytest.raises(StoppedError, match=r"cannot read chunk c/1/1 of .*in\.zarr"):
        cf.mean(cf.open(path)).save(tmp_path / "o.zarr", progress=False)
    assert zarr.open_array(str(tmp_path / "o.zarr")).attrs["chunkfilt"]["finished"] is False


def test_pixels_a_value_cannot_take_stop_the_run_with_the_reason(tmp_path, make_store):
    data = np.ones((9, 9))
    data[3, 3] = np.nan
    image = cf.equalize_hist(cf.open(make_store(tmp_path / "in.zarr", data)))
    with pytest.raises(RunError, match=r"1 NaN or infinite pixels.*marked unfinished") as caught:
        image.save(tmp_path / "o.zarr", progress=False)
    # To resume would not help.
    assert caught.value.exit_code == 1


def test_overwrite_comes_after_every_check(sources, tmp_path):
    image = cf.open(sources[0]["a"])
    first = image.save(tmp_path / "o.zarr", progress=False)
    for options, error in [({"memory": "1 MB"}, BudgetError), ({"shards": (7, 7)}, InputError)]:
        with pytest.raises(error):
            cf.mean(image).save(tmp_path / "o.zarr", overwrite=True, progress=False, **options)
        assert (zarr.open_array(str(first.path))[:] == sources[2]).all()
    second = cf.abs(image - 1).save(tmp_path / "o.zarr", overwrite=True, progress=False)
    assert second.checksums != first.checksums
    assert (zarr.open_array(str(first.path))[:] == np.abs(sources[2] - 1)).all()


def test_provenance(sources, tmp_path):
    result = cf.save(graph(cf.open(sources[0]["a"])), tmp_path / "o.zarr", progress=False)
    record = zarr.open_group(str(result.path)).attrs["chunkfilt"]
    assert record["finished"] is True
    assert record["checksums"] == dict(result.checksums)
    assert set(record["filters"]) >= {"gaussian", "equalize_hist", "mean", "std", "median"}
    assert record["versions"]["chunkfilt"] == cf.__version__
    assert record["versions"]["numpy"] == np.__version__
    assert list(record["inputs"]) == [os.path.relpath(sources[0]["a"], tmp_path / "o.zarr.run")]
    assert record["job"]["version"] == 1
    assert record["job"]["output"]["save"] == ["even", "score", "rank"]
    held = json.loads((tmp_path / "o.zarr.run" / "run.json").read_text())
    assert held["checksums"] == record["checksums"]
    assert held["plan"]["blocks"] == result.plan.blocks
    assert held["plan"]["peak"] == result.plan.peak
    assert held["sessions"][0]["seconds"] >= 0
    assert "seconds" not in json.dumps(record)


def test_the_record_of_two_runs_is_the_same(sources, tmp_path):
    records = []
    for number in range(2):
        image = cf.mean(cf.open(sources[0]["a"]))
        result = image.save(tmp_path / str(number), progress=False, workers=1 + number)
        records.append(dict(zarr.open_array(str(result.path)).attrs["chunkfilt"]))
        records[-1].pop("job")
    assert records[0] == records[1]


def test_the_fingerprint_follows_the_input(tmp_path, make_store, make_pixels):
    prints = Counter()
    for number, data in enumerate([make_pixels((9, 9)), make_pixels((9, 9)), make_pixels((9, 8))]):
        path = make_store(tmp_path / f"i{number}", data)
        result = cf.open(path).save(tmp_path / f"o{number}", progress=False)
        record = zarr.open_array(str(result.path)).attrs["chunkfilt"]
        assert list(record["inputs"]) == [f"../i{number}"]
        prints[record["inputs"][f"../i{number}"]] += 1
    assert sorted(prints.values()) == [1, 2]


def test_values_are_attributes_and_large_ones_tables(sources, tmp_path):
    image, data = cf.open(sources[0]["a"]), sources[2]
    outputs = {"m": cf.mean(image), "stats": cf.statistics(image),
               "h": cf.histogram(image, nbins=9000, range=(0, 65536))}  # fmt: skip
    result = cf.save(outputs, tmp_path / "o.zarr", progress=False)
    record = zarr.open_group(str(result.path)).attrs["chunkfilt"]
    assert np.ravel(record["values"]["stats"]["max"]) == data.max()
    assert list(record["tables"]) == ["h"]
    with (tmp_path / "o.zarr" / "tables" / "h.csv").open() as stream:
        rows = list(csv.reader(stream))
    assert rows[0] == ["counts", "bin_edges"]
    counts, edges = np.histogram(data.astype(float), bins=9000, range=(0, 65536))
    assert [int(r[0]) for r in rows[1:-1]] == counts.tolist()
    np.testing.assert_allclose([float(r[1]) for r in rows[1:]], edges)
    assert (cf.open(tmp_path / "o.zarr", "m")[:] == outputs["m"][:]).all()
    assert cf.open(tmp_path / "o.zarr").axes == ("y", "x")


@pytest.mark.parametrize("shape", [(0, 5), (1, 1), (1, 17), (7,), (2, 1, 1, 3, 5)])
def test_odd_shapes(tmp_path, make_store, make_pixels, shape):
    data = make_pixels(shape)
    path = make_store(tmp_path / "in", data, chunks=tuple(max(n // 2, 1) for n in shape))
    spatial = cf.open(path).axes[-3:]
    image = cf.maximum(cf.open(path, spatial=list(spatial)), size=3)
    result = image.save(tmp_path / "o", progress=False)
    size = [1] * (len(shape) - len(spatial)) + [3] * len(spatial)
    expected = ndimage.maximum_filter(data, size=size) if data.size else data
    np.testing.assert_array_equal(zarr.open_array(str(result.path))[:], expected)


def python(code, *arguments):
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        capture_output=True, text=True, timeout=300, check=False,
        env={**os.environ, "PYTHONPATH": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_local_run_imports_no_dask(sources, tmp_path):
    code = """
        import sys
        from chunkfilt.cli import main
        sys.argv = ["chunkfilt", "apply", "equalize_hist", sys.argv[1], sys.argv[2]]
        main()
        print(sorted({m.partition(".")[0] for m in sys.modules} & {"dask", "distributed"}))
    """
    assert python(code, sources[0]["a"], tmp_path / "o")[-1] == "[]"


def test_one_store_opened_twice_is_one_input(sources, tmp_path):
    path = sources[0]["a"]
    both = cf.open(path) - cf.mean(cf.open(path), size=3)
    result = both.save(tmp_path / "o.zarr", progress=False)
    record = zarr.open_array(str(result.path)).attrs["chunkfilt"]
    assert record["job"]["steps"][1]["input"] == ["source", "mean"]
    again = cf.from_yaml(_written(both, tmp_path / "job.yaml"))
    np.testing.assert_array_equal(again[...], both[...])


def _written(image, path):
    cf.to_yaml(image, path)
    return path


def test_a_parameter_that_is_no_number_is_recorded_as_json(sources, tmp_path):
    image = cf.mean(cf.open(sources[0]["a"]), mode="constant", cval=float("nan"))
    result = image.save(tmp_path / "o.zarr", progress=False)
    text = (result.path / "zarr.json").read_text()
    assert "NaN" not in text
    assert np.isnan(cf.open(result.path)[0, 0])


def test_seven_axes(tmp_path, make_store, make_pixels):
    path = make_store(tmp_path / "in.zarr", make_pixels((2, 1, 2, 9, 9)), dims="tczyx")
    bank = cf.gabor_bank(cf.open(path), frequencies=[0.2, 0.4], thetas=[0.0], axes=("y", "x"))
    result = bank.save(tmp_path / "o.zarr", progress=False)
    assert zarr.open_array(str(result.path)).shape == (2, 1, 2, 1, 2, 9, 9)


@pytest.mark.parametrize(
    "options", [{"workers": 1}, {"workers": 7, "memory": "9 GiB"}, {"scheduler": "serial"}]
)
def test_a_resumed_run_keeps_its_blocks(sources, tmp_path, options, monkeypatch):
    image = cf.open(sources[0]["a"])
    first = cf.save(graph(image), tmp_path / "o", chunks=8, workers=3, progress=False)
    (tmp_path / "o" / "score" / "c" / "3" / "4").unlink()
    strips = []

    def planned(*given, strip=None, keep=True, **more):
        strips.append((strip, keep))
        if strip is not None:  # There is less memory now than there was.
            raise BudgetError("too little")
        return real(*given, keep=keep, **more)

    real = run.plan_run
    for patched in (False, True):
        if patched:
            monkeypatch.setattr(run, "plan_run", planned)
        result = cf.save(
            graph(image), tmp_path / "o", chunks=8, resume=True, progress=False, **options
        )
        assert result.plan.block == first.plan.block
        assert result.checksums == sources[1]
    # What had been kept between the passes is gone: first without that.
    assert strips == [(first.plan.strip, False), (first.plan.strip, True), (None, True)]
