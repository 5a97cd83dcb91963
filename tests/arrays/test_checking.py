"""Outputs looked at again: repaired, computed once more, and where they came from."""

import json
import os
import shutil

import numpy as np
import pytest
import zarr
from scipy import ndimage

import chunkfilt as cf
from chunkfilt.arrays.checking import compare_stores, origin, repair, rerun
from chunkfilt.arrays.image import Image
from chunkfilt.engine.graph import Source
from chunkfilt.errors import InputError, StoppedError, StorageError
from chunkfilt.grid import ImageSpec
from chunkfilt.runtime.progress import BlockDone
from chunkfilt.runtime.verify import verify
from chunkfilt.storage.zarr_output import run_folder

FAIL = []


@cf.image_filter(name="_checking_failing")
def failing(block):
    """Give the pixels, or fail."""
    if FAIL:
        raise ZeroDivisionError
    return block


def one(image, place):
    return (image - cf.mean(image, size=5)).save(place, chunks=8, progress=False)


def group(image, place):
    outputs = {"b": cf.mean(image), "a": cf.equalize_hist(image), "s": cf.statistics(image)}
    return cf.save(outputs, place, chunks=8, progress=False)


def sharded(image, place):
    return cf.opening(image, size=3).save(place, chunks=8, shards=16, progress=False)


def value(image, place):
    return cf.save(cf.statistics(image, percentiles=[50.0]), place, progress=False)


def from_yaml(image, place):
    job = place.with_name("job.yaml")
    job.write_text("version: 1\ninput: in.zarr\nsteps: [median, {mean: {size: 5}}]\noutput: out\n")
    return cf.run_yaml(job, progress=False)


def table(image, place):
    counts = cf.histogram(image, nbins=9000, range=(0, 65536))
    return cf.save({"m": cf.mean(image), "h": counts}, place, chunks=8, progress=False)


KINDS = {
    "one": one, "group": group, "sharded": sharded, "value": value, "yaml": from_yaml,
    "table": table,
}  # fmt: skip


@pytest.fixture
def save(mosaic, tmp_path):
    def make(kind):
        return KINDS[kind](cf.open(mosaic), tmp_path / "out")

    return make


def files_of(place):
    files = [file for file in sorted(place.rglob("*")) if file.is_file()]
    return {str(file.relative_to(place)): file.read_bytes() for file in files}


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "value"])
def test_repair_mends_what_is_wrong_and_nothing_else(save, kind):
    result = save(kind)
    whole = files_of(result.path)
    chunks = [name for name in whole if name.startswith(("c/", "a/c/", "b/c/", "m/c/"))]
    missing, changed = result.path / chunks[0], result.path / chunks[-1]
    missing.unlink()
    changed.write_bytes(b"pixels of some kind")
    (result.path / chunks[1]).touch()
    times = {name: (result.path / name).stat().st_mtime_ns for name in chunks[1:-1]}
    assert len(verify(result.path).problems) == 2
    repaired = repair(result.path, workers=1)
    assert verify(result.path).problems == ()
    assert files_of(result.path) == whole
    assert repaired.checksums == result.checksums
    assert repaired.values == result.values
    if result.plan.blocks > 2:
        kept = [n for n in times if (result.path / n).stat().st_mtime_ns == times[n]]
        assert kept


def test_repair_finishes_what_was_stopped(mosaic, tmp_path):
    FAIL.append(True)
    image = cf.open(mosaic)
    try:
        with pytest.raises(StoppedError):
            failing(cf.mean(image)).save(tmp_path / "out", progress=False)
    finally:
        FAIL.clear()
    # A filter of one's own has no place in YAML.
    with pytest.raises(StorageError, match="has no job on record"):
        repair(tmp_path / "out")
    with pytest.raises(StorageError, match="no such file"):
        repair(tmp_path / "nowhere")


def test_a_changed_input_is_not_repaired(save, mosaic):
    result = save("one")
    (result.path / "c" / "0" / "0").unlink()
    zarr.open_array(str(mosaic), mode="r+")[0, 0] = 5
    with pytest.raises(InputError, match=r"cannot resume .*input: files was"):
        repair(result.path)
    assert not (result.path / "c" / "0" / "0").exists()


def test_without_its_run_an_output_is_not_repaired(save):
    result = save("one")
    shutil.rmtree(run_folder(result.path))
    (result.path / "c" / "0" / "0").unlink()
    with pytest.raises(InputError, match="no record of a run"):
        repair(result.path)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", [{}, {"scheduler": "serial", "memory": "6 GiB"}])
def test_once_more_gives_the_same(save, kind, options, tmp_path):
    result = save(kind)
    before = sorted(tmp_path.rglob("*"))
    again = rerun(result.path, **options)
    assert again.equal
    assert again.notes == ()
    assert len(again.results) == len(result.checksums) + len(result.values) + (kind == "table")
    assert all(then == now for then, now in again.results.values())
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("kind", KINDS)
def test_once_more_kept(save, kind, tmp_path):
    result = save(kind)
    again = rerun(result.path, tmp_path / "sub folder" / "again")
    assert again.equal
    kept = tmp_path / "sub folder" / "again"
    if kind != "value":
        assert verify(kept).problems == ()
        assert not any(d.different for d in compare_stores(result.path, kept).values())
    ours, theirs = (
        {name: held for name, held in files_of(place).items() if "zarr.json" not in name}
        for place in (result.path, kept)
    )
    assert ours == theirs
    # What is kept says where it came from, too.
    assert rerun(kept).equal
    with pytest.raises(StorageError, match="exists"):
        rerun(result.path, kept)
    with pytest.raises(StorageError, match="exists"):
        rerun(result.path, result.path)


def test_without_its_run_an_output_is_computed_once_more(save):
    result = save("group")
    shutil.rmtree(run_folder(result.path))
    assert rerun(result.path).equal


def test_a_changed_input_is_told(save, mosaic):
    result = save("group")
    held = zarr.open_array(str(mosaic), mode="r+")
    held[0, 0] = 65535 - held[0, 0]
    again = rerun(result.path)
    assert not again.equal
    assert [name for name, (then, now) in again.results.items() if then != now]
    data = held[:]
    mean = ndimage.uniform_filter(data.astype(float), 3)
    assert json.loads(again.results["s"][1])["max"] == data.max()
    assert np.isfinite(mean).all()


def test_a_changed_input_of_other_sizes_is_noted(save, mosaic):
    result = save("one")
    held = zarr.open_array(str(mosaic), mode="r+")
    held[0:16, 0:16] = 0
    (note,) = rerun(result.path).notes
    assert note.startswith("input ../in.zarr: was sha256:")
    assert ", is sha256:" in note


def test_a_changed_output_is_told(save):
    result = save("one")
    held = zarr.open_array(str(result.path), mode="r+")
    held.attrs["chunkfilt"] = {**held.attrs["chunkfilt"], "checksums": {"": "cf1:" + "0" * 16}}
    again = rerun(result.path)
    assert again.results == {"": ("cf1:" + "0" * 16, result.checksums[""])}
    assert not again.equal


def test_other_versions_are_noted(save):
    result = save("one")
    held = zarr.open_array(str(result.path), mode="r+")
    record = dict(held.attrs["chunkfilt"])
    record["versions"] = {**record["versions"], "numpy": "1.0", "gone": "2"}
    record["filters"] = {**record["filters"], "mean": 99}
    held.attrs["chunkfilt"] = record
    again = rerun(result.path)
    assert again.equal
    now = np.__version__
    assert f"version of numpy: was 1.0, is {now}" in again.notes
    assert "version of gone: was 2, is None" in again.notes
    assert any(note.startswith("filter mean: was 99, is ") for note in again.notes)


def test_a_result_that_is_not_on_record_is_told(save):
    result = save("group")
    held = zarr.open_group(str(result.path), mode="r+")
    record = dict(held.attrs["chunkfilt"])
    del record["checksums"]["a"], record["values"]["s"]
    held.attrs["chunkfilt"] = {**record, "checksums": {**record["checksums"], "c": "cf1:0"}}
    again = rerun(result.path)
    assert not again.equal
    assert again.results["a"] == ("none", result.checksums["a"])
    assert again.results["c"] == ("cf1:0", "none")
    assert again.results["b"] == (result.checksums["b"],) * 2
    assert again.results["s"][0] == "none"


def test_a_run_that_was_stopped_is_not_computed_once_more(mosaic, tmp_path):
    def stop(event):
        if isinstance(event, BlockDone):
            raise KeyboardInterrupt

    image = cf.mean(cf.open(mosaic))
    with pytest.raises(KeyboardInterrupt):
        image.save(tmp_path / "o", chunks=8, progress=stop)
    with pytest.raises(StorageError, match=r"/o is unfinished: resume it first"):
        rerun(tmp_path / "o")
    image.save(tmp_path / "o", chunks=8, resume=True, progress=False)
    assert rerun(tmp_path / "o").equal


@pytest.mark.parametrize("told", [None, 5, [1, 2], "words", {"": 5}, {"": None}])
def test_records_of_another_kind(save, told):
    result = save("one")
    held = zarr.open_array(str(result.path), mode="r+")
    whole = dict(held.attrs["chunkfilt"])
    for word in ("checksums", "values", "tables", "versions", "filters", "inputs"):
        for gone in (False, True):
            record = {name: one for name, one in whole.items() if name != word or not gone}
            held.attrs["chunkfilt"] = record if gone else {**record, word: told}
            again = rerun(result.path)
            value = word == "values" and not gone and isinstance(told, dict)
            assert again.equal == (word != "checksums" and not value)
            assert origin(result.path).startswith("written by chunkfilt ")


def test_images_in_memory_have_no_job(tmp_path):
    class Reader:
        chunks = (4, 5)

        def read(self, region):
            return np.ones((4, 5))[region.slices]

    spec = ImageSpec((4, 5), np.dtype("f8"), ("y", "x"), (0, 1))
    place = cf.mean(Image(Source(spec, Reader()))).save(tmp_path / "o", progress=False).path
    assert verify(place).problems == ()
    for action in (rerun, repair):
        with pytest.raises(StorageError, match=r"has no job on record.*images in memory"):
            action(place)
    assert "the job" not in origin(place)


def test_stores_of_others(make_store, tmp_path):
    path = make_store(tmp_path / "a", np.zeros((4, 5)))
    for action in (rerun, repair):
        with pytest.raises(StorageError, match="was not written by chunkfilt"):
            action(path)


@pytest.mark.parametrize("job", [3, [], {}, {"version": 1}, {"version": 1, "input": 5}])
def test_records_that_are_no_jobs(save, job):
    result = save("one")
    held = zarr.open_array(str(result.path), mode="r+")
    held.attrs["chunkfilt"] = {**held.attrs["chunkfilt"], "job": job}
    for action in (rerun, repair):
        with pytest.raises(InputError):
            action(result.path)


def test_a_record_names_no_code_unless_that_is_allowed(mosaic, tmp_path):
    image = cf.open(mosaic)
    place = cf.generic(image, function=np.ptp, size=3).save(tmp_path / "o", progress=False).path
    with pytest.raises(InputError, match="allow-code"):
        rerun(place)
    with cf.allow_code():
        assert rerun(place).equal


def test_where_an_output_came_from(save):
    result = save("group")
    text = origin(result.path)
    for word in (
        f"written by chunkfilt {cf.__version__}, finished", f"checksum a: {result.checksums['a']}",
        "input ../in.zarr: sha256:", f"numpy {np.__version__}", "threads x ", ": finished, ",
        "save: [b, a, s]", "equalize_hist",
    ):  # fmt: skip
        assert word in text
    shutil.rmtree(run_folder(result.path))
    assert "finished, " not in origin(result.path).partition("\n")[2]


def test_where_an_output_that_was_stopped_came_from(mosaic, tmp_path):
    FAIL.append(True)
    try:
        with pytest.raises(StoppedError):
            failing(cf.open(mosaic)).save(tmp_path / "o", progress=False)
    finally:
        FAIL.clear()
    text = origin(tmp_path / "o")
    assert "UNFINISHED" in text
    assert "ZeroDivisionError" in text
    failing(cf.open(mosaic)).save(tmp_path / "o", resume=True, progress=False)
    text = origin(tmp_path / "o")
    assert "UNFINISHED" not in text
    assert text.count("threads x ") == 2
    record = run_folder(tmp_path / "o") / "run.json"
    for held in ("", "{}", '{"sessions": [3]}', '{"sessions": [{}]}'):
        record.write_text(held)
        assert "finished" in origin(tmp_path / "o")


def test_relative_paths(save, monkeypatch, tmp_path):
    save("one")
    monkeypatch.chdir(tmp_path)
    assert rerun("out").equal
    assert repair("out").checksums
    assert list(compare_stores("out", os.path.join(".", "out"))) == [""]
