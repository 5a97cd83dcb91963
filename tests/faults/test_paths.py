"""Paths that people have, through files, the command line and Python; inputs that stay whole."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zarr
from scipy import ndimage

import chunkfilt as cf
from chunkfilt.errors import InputError

# fmt: off
NAMES = ["two words", "größe", "🔬 bilder", "a'b\"c", "line\nbreak", "-leading dash", "#hash: {x}",
         "tab\there", "%41$HOME`id`", "C:\\temp", "...", "名前", "a;c|d", "~", "x" * 99]
# fmt: on


def chunkfilt(*words, folder):
    return subprocess.run(
        [sys.executable, "-m", "chunkfilt", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
    )


def in_a_process(*words):
    done = chunkfilt(*words, folder=Path.cwd())
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def data(make_pixels):
    return make_pixels((20, 30))


def check(path, data):
    found = zarr.open_array(str(path), mode="r")[...]
    np.testing.assert_array_equal(found, ndimage.minimum_filter(data, 3))


def job_text(source, target):
    """Return a job; JSON's strings are YAML's."""
    return (
        f"version: 1\ninput: {json.dumps(source)}\nsteps: [minimum: {{size: 3}}]\n"
        f"output: {json.dumps(target)}\n"
    )


@pytest.mark.parametrize("name", NAMES)
def test_names_of_folders_stores_and_jobs(tmp_path, make_store, data, name):
    folder = tmp_path / name
    folder.mkdir()
    make_store(folder / f"{name}.zarr", data)
    job = folder / f"{name}.yaml"
    job.write_text(job_text(f"{name}.zarr", f"{name} out.zarr"), encoding="utf-8")
    cf.run_yaml(job, progress=False)
    check(folder / f"{name} out.zarr", data)
    image = cf.minimum(cf.open(folder / f"{name}.zarr"), size=3)
    written = folder / f"{name} again.yaml"
    cf.to_yaml(image, written, output=f"{name} again.zarr")
    cf.run_yaml(written, progress=False)
    check(folder / f"{name} again.zarr", data)


@pytest.mark.parametrize("name", ["two words", "🔬 bilder", "line\nbreak", "-leading dash", "'q'"])
def test_names_on_the_command_line(cli, tmp_path, make_store, data, name):
    # How the system hands names on is seen with one of them: Python takes a second to start.
    run = cli if name != "🔬 bilder" else in_a_process
    make_store(tmp_path / f"{name}.zarr", data)
    (tmp_path / f"{name}.yaml").write_text(
        job_text(f"{name}.zarr", f"{name} out.zarr"), encoding="utf-8"
    )
    code, _, said = run("run", "--workers", "1", "--", f"{name}.yaml")
    assert code == 0, said
    check(tmp_path / f"{name} out.zarr", data)
    code, told, said = run("info", "--", f"{name} out.zarr")
    assert code == 0, said
    assert "20 y x 30 x" in told
    names = f"./{name}.zarr", f"./{name} applied.zarr"
    code, _, said = run("apply", "minimum", *names, "--size", "3")
    assert code == 0, said
    check(tmp_path / f"{name} applied.zarr", data)


def test_a_name_that_is_no_utf_8(tmp_path, make_store, data):
    raw = os.fsencode(tmp_path) + b"/caf\xe9.zarr"
    make_store(tmp_path / "a.zarr", data)
    os.rename(tmp_path / "a.zarr", raw)
    with pytest.raises(InputError, match="no UTF-8") as caught:
        cf.open(os.fsdecode(raw))
    str(caught.value).encode()
    image = cf.open(make_store(tmp_path / "a.zarr", data))
    with pytest.raises(InputError, match="no UTF-8"):
        image.save(os.fsdecode(raw + b".out"), progress=False)


def test_relative_paths_are_of_the_job_not_of_where_one_stands(tmp_path, make_store, data):
    (tmp_path / "jobs" / "deep").mkdir(parents=True)
    make_store(tmp_path / "in.zarr", data)
    job = tmp_path / "jobs" / "deep" / "job.yaml"
    job.write_text(job_text("../../in.zarr", "../out/a.zarr"))
    done = chunkfilt("run", "jobs/deep/job.yaml", "--workers", "1", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    check(tmp_path / "jobs" / "out" / "a.zarr", data)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.zarr", "jobs"]


def test_symlinked_folders_stores_and_jobs(tmp_path, make_store, data):
    (tmp_path / "real").mkdir()
    make_store(tmp_path / "real" / "in.zarr", data)
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "store").symlink_to("link/in.zarr")
    (tmp_path / "job.yaml").write_text(job_text("store", "link/out.zarr"))
    (tmp_path / "link.yaml").symlink_to("job.yaml")
    cf.run_yaml(tmp_path / "link.yaml", progress=False)
    check(tmp_path / "real" / "out.zarr", data)


def held(folder):
    """Return every file below a folder with its bytes, and every link with its target."""
    return {
        str(path): os.readlink(path) if path.is_symlink() else path.is_file() and path.read_bytes()
        for path in sorted(Path(folder).rglob("*"))
    }


TOUCHING = {
    "the input itself": "in.zarr",
    "within the input": "in.zarr/out.zarr",
    "deep within the input": "in.zarr/c/0/out.zarr",
    "around the input": ".",
    "by another name": "other/../in.zarr",
    "a link to the input": "link.zarr",
    "within a link to the input": "link.zarr/out.zarr",
    "a link to the folder": "here/in.zarr",
    "where its run is recorded": "in",
}


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("target", TOUCHING.values(), ids=TOUCHING)
def test_an_output_that_touches_the_input_is_refused(tmp_path, make_store, data, target, overwrite):
    place = tmp_path / "folder"
    place.mkdir()
    name = "in.run" if target == "in" else "in.zarr"
    make_store(place / name, data)
    (place / "other").mkdir()
    (place / "link.zarr").symlink_to("in.zarr")
    (place / "here").symlink_to(".")
    (place / "job.yaml").write_text(
        f"version: 1\ninput: {name}\nsteps: [minimum]\n"
        f"output: {{path: {target}, overwrite: {str(overwrite).lower()}}}\n"
    )
    before = held(place)
    with pytest.raises(InputError):
        cf.run_yaml(place / "job.yaml", progress=False)
    with pytest.raises(InputError):
        cf.minimum(cf.open(place / name)).save(place / target, overwrite=overwrite, progress=False)
    assert held(place) == before


def test_the_command_line_refuses_with_2_and_one_sentence(tmp_path, make_store, data):
    make_store(tmp_path / "in.zarr", data)
    (tmp_path / "job.yaml").write_text(job_text("in.zarr", "in.zarr"))
    before = held(tmp_path)
    done = chunkfilt("run", "job.yaml", "--overwrite", folder=tmp_path)
    assert done.returncode == 2
    assert "is, holds or lies within the input" in done.stderr
    assert "Traceback" not in done.stderr
    assert held(tmp_path) == before
