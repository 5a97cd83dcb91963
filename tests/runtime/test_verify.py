"""Is an output what its run has written?"""

import json
import shutil

import numpy as np
import pytest
import zarr

import chunkfilt as cf
from chunkfilt.engine import costing
from chunkfilt.errors import StoppedError, StorageError
from chunkfilt.runtime.ledger import _SUM, _sum
from chunkfilt.runtime.progress import BlockDone
from chunkfilt.runtime.verify import verify
from chunkfilt.storage.zarr_output import run_folder

OFF = {"fail": False}


@cf.image_filter(name="_verify_failing")
def failing(block):
    """Give the pixels, or fail."""
    if OFF["fail"]:
        raise ZeroDivisionError
    return block


def one(image, place):
    return cf.mean(image).save(place, chunks=(16, 16), progress=False)


def from_yaml(image, place):
    job = place.with_name("job.yaml")
    job.write_text(f"version: 1\ninput: in.zarr\nsteps: [mean]\noutput: {place.name}\n")
    return cf.run_yaml(job, progress=False)


def group(image, place):
    outputs = {"b": cf.mean(image), "a": cf.median(image), "s": cf.statistics(image)}
    return cf.save(outputs, place, chunks=(16, 16), progress=False)


def sharded(image, place):
    return cf.mean(image).save(place, chunks=(8, 8), shards=(16, 16), progress=False)


KINDS = {"one": one, "yaml": from_yaml, "group": group, "sharded": sharded}
# An array of 40 x 50 has 12 files of 16 x 16.
UNITS = {"one": 12, "yaml": 12, "group": 24, "sharded": 12}


@pytest.fixture
def save(mosaic, tmp_path):
    def make(kind):
        return KINDS[kind](cf.open(mosaic), tmp_path / "o.zarr")

    return make


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("folder", [True, False])
def test_what_is_as_written_has_no_problems(save, kind, folder):
    result = save(kind)
    if not folder:
        shutil.rmtree(run_folder(result.path))
    found = verify(result.path)
    assert found.problems == ()
    assert found.units == UNITS[kind]
    assert found.checksums == result.checksums


def gone(file):
    file.unlink()
    return "is missing"


def short(file):
    file.write_bytes(file.read_bytes()[:-3])
    return f"is {file.stat().st_size} bytes instead of {file.stat().st_size + 3}"


def flipped(file):
    held = bytearray(file.read_bytes())
    held[len(held) // 2] ^= 4
    file.write_bytes(held)
    return "is not what was written"


def a_folder(file):
    file.unlink()
    file.mkdir()
    return "instead of "


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("hurt", [gone, short, flipped, a_folder])
def test_a_file_that_is_not_is_named(save, kind, hurt):
    result = save(kind)
    array = result.path / "a" if kind == "group" else result.path
    said = hurt(array / "c" / "1" / "2")
    found = verify(result.path)
    assert len(found.problems) == 1
    assert found.problems[0].startswith(f"{array}/c/1/2 (y 16:32, x 32:48) ")
    assert said in found.problems[0]


def test_a_file_too_many_is_named(tmp_path, make_store):
    path = make_store(tmp_path / "in", np.zeros((32, 32), "u2"))
    result = cf.maximum(cf.open(path)).save(tmp_path / "o", progress=False)
    assert not (result.path / "c").exists()
    assert verify(result.path).problems == ()
    assert verify(result.path).units == 4
    (result.path / "c" / "0").mkdir(parents=True)
    (result.path / "c" / "0" / "1").write_bytes(b"pixels")
    (problem,) = verify(result.path).problems
    assert problem.endswith("c/0/1 (y 0:16, x 16:32) should not exist")


@pytest.mark.parametrize("kind", KINDS)
def test_without_the_records_the_pixels_are_read(save, kind):
    result = save(kind)
    shutil.rmtree(run_folder(result.path))
    name = "a" if kind == "group" else ""
    array = zarr.open_array(str(result.path / name))
    array[3, 4] = array[3, 4] + 1
    (problem,) = verify(result.path).problems
    assert problem.startswith(f"{name or 'the image'}: its checksum is ")
    (result.path / name / "zarr.json").touch()
    array[3, 4] = array[3, 4] - 1
    assert verify(result.path).problems == ()


def test_attributes_that_say_something_else(save):
    result = save("one")
    held = zarr.open_array(str(result.path), mode="r+")
    record = {**held.attrs["chunkfilt"], "checksums": {"": "0" * 16}}
    held.attrs["chunkfilt"] = record
    for _ in range(2):
        (problem,) = verify(result.path).problems
        assert problem == (
            f"the image: its checksum is {result.checksums['']}, {'0' * 16} was written"
        )
        shutil.rmtree(run_folder(result.path), ignore_errors=True)


@pytest.mark.parametrize("folder", [True, False])
def test_an_output_that_was_never_finished(mosaic, tmp_path, folder):
    OFF["fail"] = True
    try:
        with pytest.raises(StoppedError):
            failing(cf.open(mosaic)).save(tmp_path / "o", chunks=(16, 16), progress=False)
    finally:
        OFF["fail"] = False
    if not folder:
        shutil.rmtree(run_folder(tmp_path / "o"))
    problems = verify(tmp_path / "o").problems
    assert problems[0] == "the run was stopped before its end"
    if folder:
        (left,) = problems[1:]
        assert left.endswith("(y 0:16, x 0:16) and 11 more: no record that it was written")


def test_lines_that_are_gone(save):
    result = save("group")
    (ledger,) = [file for file in run_folder(result.path).glob("ledger-*") if file.stat().st_size]
    ledger.write_text(ledger.read_text().splitlines(keepends=True)[0])
    found = verify(result.path)
    assert sum("and 11 more: no record that it was written" in p for p in found.problems) == 2
    assert sum("its checksum is" in p for p in found.problems) == 2


def test_lines_of_no_such_unit(save):
    result = save("one")
    (ledger,) = run_folder(result.path).glob("ledger-*")
    with ledger.open("a") as out:
        for unit in ("9999:0000000000000000:-", "9999:0000000000000000:5:00000000"):
            text = json.dumps({"block": 99, "units": {"": [unit]}})
            out.write(f'{text[:-1]}{_SUM}{_sum(text)}"}}\n')
    assert verify(result.path).problems == ()


@pytest.mark.parametrize("folder", [True, False])
def test_an_array_that_is_gone(save, folder):
    result = save("group")
    if not folder:
        shutil.rmtree(run_folder(result.path))
    shutil.rmtree(result.path / "b")
    assert verify(result.path).problems == (f"{result.path}/b is missing",)


@pytest.mark.parametrize("folder", [True, False])
def test_an_array_that_somebody_has_added(save, folder, make_store):
    result = save("group")
    if not folder:
        shutil.rmtree(run_folder(result.path))
    make_store(result.path / "own", np.ones((4, 5)))
    assert verify(result.path).problems == ()
    assert verify(result.path).checksums == result.checksums


@pytest.mark.parametrize("told", [None, 3, [], {}, {"": 3}, {"": None}, {"other": "x"}])
def test_checksums_that_are_none(save, told):
    result = save("one")
    held = zarr.open_array(str(result.path), mode="r+")
    held.attrs["chunkfilt"] = {**held.attrs["chunkfilt"], "checksums": told}
    for _ in range(2):
        assert verify(result.path).problems
        shutil.rmtree(run_folder(result.path), ignore_errors=True)


def test_values_alone(mosaic, tmp_path):
    result = cf.save(cf.statistics(cf.open(mosaic)), tmp_path / "o", progress=False)
    found = verify(result.path)
    assert (found.units, found.problems, found.checksums) == (0, (), {})


@pytest.fixture
def evened(mosaic, monkeypatch):
    """An image of two passes, between which another is kept."""
    monkeypatch.setattr(costing, "_KEEP_BYTE", -1.0)
    return cf.equalize_hist(cf.mean(cf.open(mosaic), size=3))


def test_values_of_a_run_that_kept_an_image(evened, tmp_path):
    result = cf.save({"s": cf.statistics(evened)}, tmp_path / "o", progress=False)
    assert '"keep 1-0"' in (run_folder(result.path) / "ledger-1.jsonl").read_text()
    for _ in range(2):
        found = verify(result.path)
        assert (found.units, found.problems, found.checksums) == (0, (), {})
        shutil.rmtree(run_folder(result.path), ignore_errors=True)


def test_a_run_that_was_stopped_while_an_image_was_kept(evened, tmp_path):
    def stop(event):
        if isinstance(event, BlockDone):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evened.save(tmp_path / "o", chunks=(16, 16), progress=stop)
    assert '"keep 1-0"' in (run_folder(tmp_path / "o") / "ledger-1.jsonl").read_text()
    stopped, left = verify(tmp_path / "o").problems
    assert stopped == "the run was stopped before its end"
    assert left.endswith("(y 0:16, x 0:16) and 11 more: no record that it was written")


def test_an_image_without_pixels(tmp_path, make_store):
    path = make_store(tmp_path / "in", np.zeros((0, 5), "u2"))
    for folder in (True, False):
        result = cf.mean(cf.open(path)).save(tmp_path / "o", overwrite=True, progress=False)
        if not folder:
            shutil.rmtree(run_folder(result.path))
        assert verify(result.path).problems == ()


@pytest.mark.parametrize("note", [None, 3, {}, {"finished": True}, {"versions": 3}])
def test_a_store_of_others(make_store, tmp_path, note):
    attributes = {} if note is None else {"chunkfilt": note}
    path = make_store(tmp_path / "a", np.zeros((4, 5)), attributes=attributes)
    with pytest.raises(StorageError, match="was not written by chunkfilt"):
        verify(path)


def test_no_store(tmp_path):
    with pytest.raises(StorageError, match="no such file"):
        verify(tmp_path / "nowhere")
    with pytest.raises(StorageError, match="not a Zarr store"):
        verify(tmp_path)
