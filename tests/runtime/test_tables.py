"""Tables: values too large for attributes, written whole, summed, looked at, written again."""

import csv
import errno
import json
import shutil

import numpy as np
import pytest
import zarr

import chunkfilt as cf
from chunkfilt.arrays.checking import repair, rerun
from chunkfilt.errors import StoppedError
from chunkfilt.runtime import run, tables
from chunkfilt.runtime.progress import RunFinished
from chunkfilt.runtime.tables import value_document
from chunkfilt.runtime.verify import verify
from chunkfilt.storage.zarr_output import run_folder
from tests.faults.rig import contents

FAIL = []


@cf.image_filter(name="_tables_failing")
def failing(block, *, origin_px):
    """Give the pixels, or fail from a row on."""
    if FAIL and origin_px[0] >= FAIL[0]:
        raise ZeroDivisionError
    return block


def outputs_of(image):
    counts = cf.histogram(image, nbins=9000, range=(0.0, 65536.1))
    return {"m": cf.mean(image), "h": counts, "s": cf.statistics(image)}


@pytest.fixture
def saved(mosaic, tmp_path):
    return cf.save(outputs_of(cf.open(mosaic)), tmp_path / "o", chunks=8, progress=False)


def attributes(place):
    return dict(zarr.open_group(str(place), mode="r").attrs["chunkfilt"])


def test_numbers_are_written_with_the_digits_that_give_them_back(saved, mosaic):
    text = (saved.path / "tables" / "h.csv").read_bytes().decode()
    lines = text.split("\r\n")
    data = zarr.open_array(str(mosaic))[:].astype(float)
    counts, edges = np.histogram(data, bins=9000, range=(0.0, 65536.1))
    assert lines[0] == "counts,bin_edges"
    assert lines[1:-2] == [
        f"{count},{edge!r}" for count, edge in zip(counts.tolist(), edges.tolist(), strict=False)
    ]
    assert lines[-2:] == [",65536.1", ""]
    held = json.loads((run_folder(saved.path) / "run.json").read_bytes())["tables"]
    assert held == attributes(saved.path)["tables"]
    assert held["h"].keys() == {"file", "bytes", "crc32c"}
    assert (held["h"]["file"], held["h"]["bytes"]) == ("tables/h.csv", len(text))


def test_numbers_of_every_kind(tmp_path, make_store):
    data = np.array([np.nan, -np.inf, np.inf, -0.0, 0.1, 16777217], "f4")
    tables._store(tmp_path, tmp_path / "staging", "t", data[None])
    text = (tmp_path / "tables" / "t.csv").read_text().split()
    assert text == ["t", "nan", "-inf", "inf", "-0.0", "0.10000000149011612", "16777216.0"]


def gone(file):
    file.unlink()
    return "h.csv is missing"


def all_gone(file):
    shutil.rmtree(file.parent)
    return "h.csv is missing"


def short(file):
    file.write_bytes(file.read_bytes()[:-3])
    return f"h.csv is {file.stat().st_size} bytes instead of {file.stat().st_size + 3}"


def flipped(file):
    held = bytearray(file.read_bytes())
    held[len(held) // 2] ^= 1
    file.write_bytes(held)
    return "h.csv is not what was written"


HURTS = [gone, all_gone, short, flipped]


@pytest.mark.parametrize("records", [True, False])
@pytest.mark.parametrize("hurt", HURTS)
def test_a_table_that_is_not_as_written_is_named(saved, hurt, records):
    if not records:
        shutil.rmtree(run_folder(saved.path))
    assert verify(saved.path).problems == ()
    assert verify(saved.path).units == 36
    said = hurt(saved.path / "tables" / "h.csv")
    assert verify(saved.path).problems == (f"{saved.path}/tables/{said}",)


def test_a_folder_in_the_place_of_a_table(saved):
    file = saved.path / "tables" / "h.csv"
    file.unlink()
    file.mkdir()
    (problem,) = verify(saved.path).problems
    assert problem == f"{file} cannot be read: Is a directory"


@pytest.mark.parametrize("told", [None, "tables/h.csv", 3, {}, {"bytes": 3}])
def test_records_of_tables_that_hold_no_sums(saved, told):
    held = zarr.open_group(str(saved.path), mode="r+")
    held.attrs["chunkfilt"] = {**held.attrs["chunkfilt"], "tables": {"h": told}}
    (problem,) = verify(saved.path).problems
    adds = f"has no sums on record: `chunkfilt verify {saved.path} --repair` adds them"
    assert problem.endswith(f"tables/h.csv {adds}")
    found = rerun(saved.path)
    assert (found.equal, found.results.keys()) == (True, {"m", "s"})
    assert found.notes == (f"h is not comparable: its table {adds}",)
    repair(saved.path)
    assert verify(saved.path).problems == ()
    assert rerun(saved.path).results.keys() == {"m", "h", "s"}
    held.attrs["chunkfilt"] = {**held.attrs["chunkfilt"], "tables": told}
    assert len(verify(saved.path).problems) == (1 if told == {"bytes": 3} else 0)


@pytest.mark.parametrize("values", ["kept", "gone", "damaged"])
@pytest.mark.parametrize("hurt", HURTS)
def test_a_table_is_written_again(saved, hurt, values):
    whole, told = contents(saved.path), []
    hurt(saved.path / "tables" / "h.csv")
    held = list(run_folder(saved.path).glob("values-*.npz"))
    assert held
    for one in held if values != "kept" else ():
        one.unlink() if values == "gone" else one.write_bytes(b"values")
    repair(saved.path, told.append)
    assert contents(saved.path) == whole
    assert verify(saved.path).problems == ()
    finished = [event for event in told if isinstance(event, RunFinished)]
    computed = len(saved.plan.grid) * sum(bool(step.values) for step in saved.plan.steps)
    assert [one.blocks for one in finished] == [0 if values == "kept" else computed]


def test_a_table_beside_a_chunk_that_is_gone(saved):
    whole = contents(saved.path)
    (saved.path / "m" / "c" / "1" / "1").unlink()
    short(saved.path / "tables" / "h.csv")
    assert len(verify(saved.path).problems) == 2
    repair(saved.path)
    assert contents(saved.path) == whole


@pytest.mark.parametrize("kept", [True, False])
def test_once_more(saved, mosaic, tmp_path, kept):
    out = tmp_path / "again" if kept else None
    found = rerun(saved.path, out)
    assert found.equal
    assert found.results.keys() == {"m", "h", "s"}
    held = zarr.open_group(str(saved.path), mode="r+")
    record = attributes(saved.path)
    record["tables"]["h"]["crc32c"] = "00000000"
    held.attrs["chunkfilt"] = record
    found = rerun(saved.path)
    assert [name for name, (then, now) in found.results.items() if then != now] == ["h"]


def test_once_more_of_another_input(saved, mosaic, tmp_path):
    pixels = zarr.open_array(str(mosaic), mode="r+")
    pixels[3, 3] = 65535 - pixels[3, 3]
    for out in (None, tmp_path / "again"):
        then, now = rerun(saved.path, out).results["h"]
        assert json.loads(then)["crc32c"] != json.loads(now)["crc32c"]


@pytest.mark.parametrize("row", [0, 16])
def test_a_run_that_was_stopped_ends_with_the_same_tables(mosaic, tmp_path, row, monkeypatch):
    real = run.make_plan

    def planned(*given, **more):
        return real(*given, **{**more, "block": (8, 56), "strip": (8, 56)})

    monkeypatch.setattr(run, "make_plan", planned)
    made = outputs_of(failing(cf.open(mosaic)))
    options = {"chunks": 8, "scheduler": "serial", "progress": False}
    whole = cf.save(made, tmp_path / "whole", **options)
    FAIL.append(row)
    try:
        with pytest.raises(StoppedError):
            cf.save(made, tmp_path / "o", **options)
    finally:
        FAIL.clear()
    assert not (tmp_path / "o" / "tables").exists()
    again = cf.save(made, tmp_path / "o", resume=True, **options)
    assert again.resumed == row // 8
    assert contents(tmp_path / "o") == contents(whole.path)


def test_a_full_disk_leaves_no_part_of_a_table(mosaic, tmp_path, monkeypatch, saved):
    place, made, real = tmp_path / "full", outputs_of(cf.open(mosaic)), tables._Summed.take

    def take(self, piece):
        if self._stream is not None and self.size > 10000:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(self, piece)

    with monkeypatch.context() as patched:
        patched.setattr(tables._Summed, "take", take)
        with pytest.raises(StoppedError, match="No space left"):
            cf.save(made, place, chunks=8, progress=False)
    assert not [file for file in place.rglob("*") if file.suffix == ".csv"]
    assert not (run_folder(place) / "staging").exists()
    cf.save(made, place, chunks=8, resume=True, progress=False)
    assert (place / "tables" / "h.csv").read_bytes() == contents(saved.path)["tables/h.csv"]


def test_rows_of_stacks_have_a_column(tmp_path, make_store):
    data = np.random.default_rng(1).integers(0, 60000, (2, 90, 90)).astype("uint16")
    image = cf.open(make_store(tmp_path / "in.zarr", data, dims="tyx"))
    assert image.spatial == ("y", "x")
    place = cf.save(cf.unique_counts(image), tmp_path / "o.zarr", progress=False).path
    with (place / "tables" / "unique_counts.csv").open() as stream:
        head, *rows = list(csv.reader(stream))
    assert head == ["row", "values", "counts"]
    for row in (0, 1):
        values, counts = np.unique(data[row], return_counts=True)
        mine = [entry for entry in rows if int(entry[0]) == row]
        assert [int(entry[1]) for entry in mine] == values.tolist()
        assert [int(entry[2]) for entry in mine] == counts.tolist()
    assert verify(place).problems == ()
    assert rerun(place).equal


def test_documents():
    assert value_document(np.array([1.5, np.nan, np.inf, -np.inf])) == [
        1.5, None, "Infinity", "-Infinity",
    ]  # fmt: skip
    assert value_document({"a": (np.int64(3), True)}) == {"a": [3, True]}
