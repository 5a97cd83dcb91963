"""Outputs: refused before anything is touched, and never written over what is not theirs."""

import contextlib
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr

import chunkfilt as cf
from chunkfilt.errors import InputError, StorageError
from chunkfilt.storage.zarr_output import (
    check_output_path,
    run_folder,
)


def snapshot(folder):
    """Return every file's bytes, every folder and every link below a folder."""
    return {
        p.relative_to(folder): os.readlink(p) if p.is_symlink() else p.is_file() and p.read_bytes()
        for p in sorted(folder.rglob("*"))
    }


def save(mosaic, path, **options):
    return cf.save(cf.abs(cf.open(mosaic)), path, progress=False, **options)


def refused(mosaic, path, words, **options):
    """Check that saving to `path` is refused and leaves every file as it was."""
    before = snapshot(mosaic.parent)
    with pytest.raises(InputError, match=words):
        save(mosaic, path, **options)
    assert snapshot(mosaic.parent) == before


@pytest.mark.parametrize("overwrite", [False, True])
def test_an_output_that_is_or_touches_the_input(mosaic, overwrite):
    words = "is, holds or lies within the input"
    folder = mosaic.parent
    (folder / "link.zarr").symlink_to("in.zarr")
    (folder / "dir").symlink_to(folder)
    for path in (
        mosaic,
        mosaic / "inner",
        mosaic / "c" / "0",
        folder,
        folder / "sub" / ".." / "in.zarr",
        folder / "link.zarr",
        folder / "link.zarr" / "inner",
        folder / "dir" / "in.zarr",
    ):
        refused(mosaic, path, words, overwrite=overwrite)


def test_an_input_opened_by_a_link(mosaic, tmp_path):
    (tmp_path / "link.zarr").symlink_to("in.zarr")
    image = cf.abs(cf.open(tmp_path / "link.zarr"))
    with pytest.raises(StorageError, match="the input"):
        image.save(mosaic, overwrite=True, progress=False)
    assert (np.asarray(cf.open(mosaic)) == zarr.open_array(str(mosaic))[:]).all()


def test_the_group_that_holds_the_input(tmp_path, make_store):
    zarr.create_group(str(tmp_path / "g.zarr"))
    member = make_store(tmp_path / "g.zarr" / "a", np.ones((4, 5)))
    for path in (tmp_path / "g.zarr", member):
        with pytest.raises(StorageError, match="the input"):
            cf.abs(cf.open(tmp_path / "g.zarr", "a")).save(path, overwrite=True, progress=False)
    assert (zarr.open_array(str(member))[:] == 1).all()


def test_an_output_that_exists(mosaic, tmp_path):
    save(mosaic, tmp_path / "out.zarr")
    refused(mosaic, tmp_path / "out.zarr", "exists: set overwrite")
    save(mosaic, tmp_path / "out.zarr", overwrite=True)


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_is_no_store_is_never_overwritten(mosaic, tmp_path, overwrite):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("years of work")
    (tmp_path / "empty").mkdir()
    (tmp_path / "note.txt").write_text("words")
    (tmp_path / "broken").symlink_to("nowhere")
    (tmp_path / "to_thesis").symlink_to("thesis")
    for name in ("thesis", "empty", "note.txt", "broken", "to_thesis"):
        refused(mosaic, tmp_path / name, "exists", overwrite=overwrite)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_foreign_folder_beside_the_output_is_never_removed(mosaic, tmp_path, overwrite):
    if overwrite:
        make = zarr.create_array(str(tmp_path / "out.zarr"), shape=(3,), dtype="u1")
        assert make.shape == (3,)
    beside = run_folder(tmp_path / "out.zarr")
    beside.mkdir()
    (beside / "diary.txt").write_text("years of work")
    with contextlib.suppress(InputError):
        save(mosaic, tmp_path / "out.zarr", overwrite=overwrite)
    assert (beside / "diary.txt").read_text() == "years of work"


def test_an_input_beside_the_output_is_never_removed(tmp_path, make_store):
    data = np.ones((8, 8), "uint8")
    source = make_store(run_folder(tmp_path / "out.zarr") / "in.zarr", data)
    with contextlib.suppress(InputError):
        save(source, tmp_path / "out.zarr")
    assert (zarr.open_array(str(source))[:] == 1).all()


def test_a_file_where_the_run_is_recorded(mosaic, tmp_path):
    (tmp_path / "out.zarr.run").write_text("words")
    refused(mosaic, tmp_path / "out.zarr", "out.zarr.run")


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '"versions"', '{"versions": 3}', '{"versions": {"other": "1.0"}}']
)
def test_a_record_of_some_other_program_beside_the_output(mosaic, tmp_path, text):
    beside = run_folder(tmp_path / "out.zarr")
    beside.mkdir()
    (beside / "run.json").write_text(text)
    refused(mosaic, tmp_path / "out.zarr", "records no run.*choose another output")


def test_the_record_of_a_run_whose_output_is_gone_is_replaced(mosaic, tmp_path):
    save(mosaic, tmp_path / "out.zarr")
    before = (tmp_path / "out.zarr.run" / "run.json").stat().st_mtime_ns
    shutil.rmtree(tmp_path / "out.zarr")
    save(mosaic, tmp_path / "out.zarr")
    assert (tmp_path / "out.zarr.run" / "run.json").stat().st_mtime_ns > before


def test_a_run_that_ended_before_it_was_recorded_is_no_obstacle(mosaic, tmp_path):
    run_folder(tmp_path / "out.zarr").mkdir()
    save(mosaic, tmp_path / "out.zarr")
    shutil.rmtree(tmp_path / "out.zarr")
    (run_folder(tmp_path / "out.zarr") / "run.json").rename(
        run_folder(tmp_path / "out.zarr") / "run.json.partial"
    )
    save(mosaic, tmp_path / "out.zarr")


def test_where_nothing_can_be_written(mosaic, tmp_path):
    (tmp_path / "note.txt").write_text("words")
    refused(mosaic, tmp_path / "note.txt" / "out.zarr", "not a folder that you may write to")
    refused(mosaic, tmp_path / "note.txt" / "deep" / "out.zarr", "not a folder")
    if os.geteuid() != 0:
        (tmp_path / "locked").mkdir(mode=0o500)
        refused(mosaic, tmp_path / "locked" / "out.zarr", "may write to")


@pytest.mark.parametrize("url", ["s3://bucket/x.zarr", "https://x.org/y.zarr", "memory://a"])
def test_urls_are_refused(mosaic, tmp_path, monkeypatch, url):
    with pytest.raises(StorageError, match="local path"):
        check_output_path(url, [], overwrite=False)
    monkeypatch.chdir(tmp_path)
    refused(mosaic, url, "local path")
    refused(mosaic, Path(url), "local path")  # a Path folds the slashes


def test_urls_in_a_job_are_refused(mosaic, tmp_path, make_job):
    job = make_job("version: 1\ninput: in.zarr\nsteps: [abs]\noutput: s3://bucket/x.zarr\n")
    before = snapshot(tmp_path)
    with pytest.raises(InputError, match="local path"):
        cf.run_yaml(job, progress=False)
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize(
    "path",
    [
        "a" * 300,
        "a" * 5000,
        "a\0b",
        "a" * 252,
        "no/" + "a" * 300 + "/b",
        "a/" * 2030 + "b",
        "a\udfff",
    ],
    ids=["name", "path", "null", "record", "parent", "deep", "unicode"],
)
def test_paths_that_no_file_system_takes(mosaic, tmp_path, path):
    refused(mosaic, tmp_path / path, "output .*a.* cannot be a path here")
    with pytest.raises(StorageError) as caught:
        cf.open(tmp_path / path)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("path", [5, None, ["a"]])
def test_what_is_no_path(mosaic, path):
    refused(mosaic, path, "output must be a path")
    with pytest.raises(StorageError, match="input must be a path"):
        cf.open(path)


LATER = [
    {"shards": (10, 10), "chunks": (4, 4)},
    {"chunks": (4, 4, 4)},
    {"chunks": (0, 4)},
    {"chunks": (-4, 4)},
    {"chunks": (2.5, 4)},
    {"chunks": "many"},
    {"chunks": True},
    {"chunks": 2.5},
    {"chunks": ()},
    {"shards": (16, "a")},
    {"overwrite": "no"},
    {"memory": "1 MB"},
    {"memory": "plenty"},
    {"workers": 0},
    {"workers": "two"},
    {"workers": 1.5},
    {"scheduler": "thread"},
    {"address": "tcp://127.0.0.1:9"},
    {"scheduler": "distributed", "address": "nonsense"},
    {"compressor": "lzma"},
    {"compressor": {"zstd": 99}},
    {"compressor": {"gzip": 99}},
    {"compressor": {"blosc": 99}},
    {"compressor": {"blosc": {"cname": "nope"}}},
    {"compressor": {"blosc": {"clevel": 10}}},
    {"compressor": {"blosc": {"blocksize": 10**30}}},
    {"compressor": {"zstd": 1000}},
    {"compressor": {"zstd": True}},
    {"compressor": {"zstd": "fast"}},
    {"compressor": {"zstd": [3]}},
    {"compressor": {"gzip": -1}},
    {"compressor": {"zstd": 3, "gzip": 3}},
    {"compressor": {}},
    {"compressor": {3: 3}},
    {"compressor": 3},
    {"compressor": ["zstd"]},
    {"nonsense": 3},
]


@pytest.mark.parametrize("options", LATER, ids=str)
def test_nothing_is_overwritten_when_a_later_check_fails(mosaic, tmp_path, options):
    save(mosaic, tmp_path / "out.zarr")
    refused(mosaic, tmp_path / "out.zarr", ".", **{"overwrite": True, **options})


@pytest.mark.parametrize(
    "compressor",
    ["none", "zstd", "blosc", {"zstd": 22}, {"zstd": -5}, {"gzip": 0}, {"gzip": None}, {"blosc": 9},
     {"blosc": {"cname": "lz4", "clevel": 1, "shuffle": "bitshuffle"}},
     {"zstd": {"level": 1, "checksum": True}}],
    ids=str,
)  # fmt: skip
def test_compressors(mosaic, tmp_path, compressor):
    save(mosaic, tmp_path / "out.zarr", compressor=compressor, chunks=np.int64(8))
    assert (cf.open(tmp_path / "out.zarr")[:] == cf.open(mosaic)[:]).all()


@pytest.mark.parametrize("name", ["..", ".", "zarr.json", "tables", "c", "a/../../b", ""])
def test_names_of_arrays_stay_within_the_group(mosaic, tmp_path, name, make_job):
    save(mosaic, tmp_path / "sub" / "out.zarr")
    before = snapshot(tmp_path)
    job = make_job(
        f"""
        version: 1
        input: in.zarr
        steps: [{{abs: {{}}, name: "{name}"}}, {{mean: {{}}, name: m}}]
        output: {{path: sub/out.zarr, save: ["{name}", m], overwrite: true}}
        """
    )
    before = snapshot(tmp_path)
    try:
        cf.run_yaml(job, progress=False)
    except InputError:
        assert snapshot(tmp_path) == before
        return
    outside = {p: raw for p, raw in before.items() if p.parts[0] != "sub"}
    assert {p: r for p, r in snapshot(tmp_path).items() if p.parts[0] != "sub"} == outside
    assert sorted(p.name for p in (tmp_path / "sub").iterdir()) == ["out.zarr", "out.zarr.run"]
    assert (cf.open(tmp_path / "sub" / "out.zarr", name)[:] == cf.open(mosaic)[:]).all()


def test_a_link_is_replaced_and_what_it_led_to_stays(mosaic, tmp_path):
    save(mosaic, tmp_path / "kept.zarr")
    before = snapshot(tmp_path / "kept.zarr")
    (tmp_path / "out.zarr").symlink_to("kept.zarr")
    save(mosaic, tmp_path / "out.zarr", overwrite=True)
    assert snapshot(tmp_path / "kept.zarr") == before
    assert not (tmp_path / "out.zarr").is_symlink()
