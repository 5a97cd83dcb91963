"""Where an output came from: its attributes, and what stands in its run's folder."""

import datetime as dt
import json
import os
import re
import shutil
import socket

import numpy as np
import pytest
import zarr

import chunkfilt as cf
from chunkfilt.arrays import checking
from chunkfilt.documents import read_yaml
from chunkfilt.errors import InputError, StoppedError
from chunkfilt.runtime.provenance import PACKAGES
from chunkfilt.storage.zarr_output import run_folder

FAIL = {"at": -1}


@cf.image_filter(name="_provenance_failing")
def failing(block, *, origin_px):
    """Give the pixels; fail from a row on."""
    if 0 <= FAIL["at"] <= origin_px[0]:
        message = "a kernel went wrong"
        raise ZeroDivisionError(message)
    return block


@pytest.fixture(autouse=True)
def _no_fault():
    FAIL["at"] = -1


def outputs_of(path):
    image = cf.open(path)
    return {"b": cf.median(image, size=3), "a": cf.equalize_hist(image), "s": cf.statistics(image)}


def held_in(place):
    return json.loads((run_folder(place) / "run.json").read_bytes())


def attributes_of(place):
    return dict(zarr.open(str(place), mode="r").attrs["chunkfilt"])


@pytest.fixture
def saved(mosaic, tmp_path):
    place = tmp_path / "out.zarr"
    return cf.save(outputs_of(mosaic), place, chunks=8, workers=2, progress=False)


def test_what_is_recorded_of_a_run(saved, mosaic):
    held, inside = held_in(saved.path), attributes_of(saved.path)
    assert set(inside) == {
        "finished", "job", "inputs", "filters", "versions", "checksums", "values",
    }  # fmt: skip
    assert held.keys() == inside.keys() | {"fingerprint", "plan", "sessions"}
    assert {key: held[key] for key in inside} == inside
    assert inside["finished"] is True
    assert inside["checksums"] == dict(saved.checksums)
    assert inside["values"]["s"]["max"] == zarr.open_array(str(mosaic))[:].max()
    assert list(inside["inputs"]) == ["../in.zarr"]
    assert re.fullmatch("sha256:[0-9a-f]{32}", inside["inputs"]["../in.zarr"])
    assert inside["filters"].keys() >= {"median", "equalize_hist", "statistics"}
    assert tuple(inside["versions"]) == PACKAGES
    assert inside["versions"]["numpy"] == np.__version__
    assert held["plan"] == json.loads(json.dumps(saved.plan.as_dict()))
    assert set(held["fingerprint"]) == {"graph", "outputs", "storage"}
    (session,) = held["sessions"]
    assert session["outcome"] == "finished"
    assert (session["scheduler"], session["workers"]) == ("threads", 2)
    assert session["host"] == socket.gethostname()
    assert session["seconds"] >= 0
    assert session["blocks"] == sum(len(step.grid) for step in saved.plan.steps)
    assert session["resumed"] == 0
    started, ended = (dt.datetime.fromisoformat(session[one]) for one in ("started", "ended"))
    assert started <= ended
    assert started.tzinfo is not None


def test_attributes_hold_no_place_and_no_time(saved, tmp_path):
    for file in saved.path.rglob("zarr.json"):
        text = file.read_text()
        for word in (str(tmp_path), socket.gethostname(), "seconds", "started", "peak"):
            assert word not in text
        assert not re.search(r"20\d\d-\d\d-\d\d", text)
    assert str(tmp_path) not in (run_folder(saved.path) / "job.yaml").read_text()


def test_nothing_else_is_left_behind(saved, tmp_path):
    assert {one.name for one in run_folder(saved.path).iterdir()} - {"lock"} == {
        "run.json", "job.yaml",
        *(f"ledger-{n}.jsonl" for n in range(1, 9) if _writes(saved, n)),
        *(f"values-{n}.npz" for n in range(1, 9) if _finds(saved, n)),
    }  # fmt: skip
    assert {one.name for one in tmp_path.iterdir()} == {"in.zarr", "out.zarr", "out.zarr.run"}


def _writes(result, number):
    return number <= len(result.plan.steps) and bool(result.plan.steps[number - 1].images)


def _finds(result, number):
    return number <= len(result.plan.steps) and bool(result.plan.steps[number - 1].values)


def test_two_sessions(mosaic, tmp_path):
    place = tmp_path / "o"
    made = failing(cf.median(cf.open(mosaic), size=3))
    FAIL["at"] = 0
    with pytest.raises(StoppedError):
        made.save(place, scheduler="serial", progress=False)
    first = held_in(place)
    assert first["finished"] is False
    assert "checksums" not in first
    FAIL["at"] = -1
    result = made.save(place, resume=True, workers=1, memory="4 GiB", progress=False)
    held = held_in(place)
    assert [one["scheduler"] for one in held["sessions"]] == ["serial", "threads"]
    assert held["sessions"][0] == first["sessions"][0]
    assert "a kernel went wrong" in held["sessions"][0]["outcome"]
    assert held["sessions"][1]["outcome"] == "finished"
    assert held["sessions"][1]["memory"] == 4 << 30
    assert held["finished"] is True
    whole = made.save(tmp_path / "whole", progress=False)
    assert held["checksums"] == whole.checksums == result.checksums
    assert attributes_of(place) == {**attributes_of(tmp_path / "whole"), "job": None}
    assert held["fingerprint"] == held_in(tmp_path / "whole")["fingerprint"]


def test_the_same_run_elsewhere_gives_the_same_bytes(mosaic, tmp_path):
    stores = []
    for number, options in enumerate([{"workers": 1}, {"workers": 3, "memory": "8 GiB"}]):
        folder = tmp_path / str(number)
        folder.mkdir()
        shutil.copytree(mosaic, folder / "in")
        place = cf.save(outputs_of(folder / "in"), folder / "o", progress=False, **options).path
        files = [file for file in sorted(place.rglob("*")) if file.is_file()]
        stores.append({str(file.relative_to(place)): file.read_bytes() for file in files})
    assert stores[0] == stores[1]


JOB = """
version: 1
input: in.zarr
steps:
  - gaussian: {sigma: 1.5}
    name: g
  - equalize_hist
output: {path: sub/out.zarr, save: [g, equalize_hist], chunks: [8, 50], compressor: none}
run: {workers: 2}
"""


@pytest.mark.parametrize("by", ["yaml", "one", "group", "values", "ints"])
def test_the_recorded_job_runs_by_itself(mosaic, make_job, tmp_path, by, monkeypatch):
    (tmp_path / "sub").mkdir()
    place, image = tmp_path / "sub" / "out.zarr", cf.open(mosaic)
    options = {"progress": False}
    if by == "yaml":
        result = cf.run_yaml(make_job(JOB), progress=False)
    elif by == "values":
        result = cf.save(cf.statistics(image), place, **options)
    elif by == "group":
        result = cf.save(outputs_of(mosaic), place, compressor={"zstd": 2}, **options)
    else:
        more = {"chunks": 8, "shards": np.int64(16)} if by == "ints" else {}
        result = cf.mean(image).save(place, **options, **more)
    assert result.path == place
    monkeypatch.chdir("/")
    job = run_folder(place) / "job.yaml"
    again = cf.run_yaml(job, f"output.path={tmp_path / 'again'}", progress=False)
    assert again.checksums == result.checksums
    assert again.values == result.values
    assert "run" not in read_yaml(job).data
    for name in [*result.checksums]:
        one, other = (zarr.open_array(str(held.path / name)) for held in (result, again))
        assert (one.chunks, one.shards, one.compressors) == (
            other.chunks, other.shards, other.compressors,
        )  # fmt: skip
    # As it stands it would write what is there.
    with pytest.raises(InputError, match="exists"):
        cf.run_yaml(job, progress=False)


def test_input_and_output_move_together(tmp_path, make_store, make_pixels, monkeypatch):
    here, there = tmp_path / "here", tmp_path / "there" / "ü b"
    (here / "data").mkdir(parents=True)
    there.parent.mkdir()
    path = make_store(here / "data" / "in", make_pixels((40, 50)), dims="yx")
    monkeypatch.chdir(here)
    whole = cf.save(outputs_of("data/in"), "out", progress=False, chunks=8)
    here.rename(there)
    monkeypatch.chdir(tmp_path)
    assert not path.exists()
    again = checking.rerun("there/ü b/out")
    assert again.equal
    assert again.notes == ()
    (there / "out" / "b" / "c" / "1" / "1").unlink()
    repaired = checking.repair(there / "out")
    assert repaired.checksums == whole.checksums
    assert repaired.resumed > 0
    assert len(held_in(there / "out")["sessions"]) == 2


def test_far_inputs_are_named_in_full(mosaic, tmp_path):
    if mosaic.parts[1] == "dev" or not os.access("/dev/shm", os.W_OK):
        pytest.skip("no other folder to write to")
    folder = os.path.join("/dev/shm", f"chunkfilt-{os.getpid()}")
    os.mkdir(folder)
    try:
        place = cf.mean(cf.open(mosaic)).save(os.path.join(folder, "o"), progress=False).path
        assert list(attributes_of(place)["inputs"]) == [str(mosaic)]
        assert checking.rerun(place).equal
    finally:
        shutil.rmtree(folder)


@pytest.mark.parametrize("text", ["", "{}", "null", "[]", '{"fingerprint": 1}', "\x00"])
def test_without_a_record_nothing_is_resumed(saved, mosaic, text):
    before = zarr.open_array(str(saved.path / "b"))[:]
    (run_folder(saved.path) / "run.json").write_text(text)
    options = {"chunks": 8, "progress": False}
    with pytest.raises(InputError, match="run") as caught:
        cf.save(outputs_of(mosaic), saved.path, resume=True, **options)
    assert caught.value.exit_code == 2
    np.testing.assert_array_equal(zarr.open_array(str(saved.path / "b"))[:], before)


def test_resuming_what_was_never_begun_begins_it(mosaic, tmp_path):
    result = cf.save(outputs_of(mosaic), tmp_path / "o", resume=True, progress=False)
    assert result.resumed == 0
    assert held_in(tmp_path / "o")["finished"] is True


def test_another_run_is_not_resumed(saved, mosaic):
    image = cf.open(mosaic)
    with pytest.raises(InputError, match=r"cannot resume .*median: size was 3 and is 5.*overwrite"):
        cf.save({**outputs_of(mosaic), "b": cf.median(image, size=5)}, saved.path, chunks=8,
                resume=True, progress=False)  # fmt: skip
    with pytest.raises(InputError, match=r"storage: a: chunks was \[8, 8\] and is \[16, 16\]"):
        cf.save(outputs_of(mosaic), saved.path, resume=True, progress=False)
    several = {name: cf.median(image, size=5) for name in "cdefghi"}
    with pytest.raises(InputError, match=r"; and \d+ more; start anew"):
        cf.save(several, saved.path, resume=True, progress=False)
    assert held_in(saved.path)["finished"] is True
    assert len(held_in(saved.path)["sessions"]) == 1
