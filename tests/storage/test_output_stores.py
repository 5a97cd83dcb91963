"""Outputs that are created whole, opened again to go on, and removed but for their lock."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import zarr
from zarr.codecs import BloscCodec, ZstdCodec

from chunkfilt.errors import StorageError
from chunkfilt.grid import ImageSpec, Region
from chunkfilt.storage import zarr_output
from chunkfilt.storage.zarr_output import (
    ArrayLayout,
    check_output_path,
    create_output,
    open_output,
    remove_output,
    run_folder,
)

LZ4 = BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle")


def layout(shape, chunks, shards=None, dtype="uint16", compressor=None, nodata=None):
    axes = "tczyx"[-len(shape) :]
    spec = ImageSpec(shape, np.dtype(dtype), tuple(axes), tuple(range(len(shape))), (), nodata)
    return ArrayLayout(spec, chunks, shards, compressor)


NAMES = ("a", "tables of b")


def open_pair(folder, layouts):
    path, staging = folder / "g.zarr", folder / "g.zarr.run" / "staging"
    return open_output(path, layouts, group=True, staging=staging)


def make_pair(folder, **options):
    layouts = {name: layout((20, 30), (5, 8), **options) for name in NAMES}
    path, staging = folder / "g.zarr", folder / "g.zarr.run" / "staging"
    made = create_output(
        path, layouts, group=True, attributes={"chunkfilt": {"finished": False}}, staging=staging
    )
    return layouts, made


@pytest.mark.parametrize(
    "options",
    [{}, {"nodata": float("nan"), "dtype": "float32"}, {"shards": (10, 16), "compressor": LZ4},
     {"compressor": ZstdCodec(level=3)}, {"dtype": "bool"}, {"dtype": "complex64"}],
    ids=str,
)  # fmt: skip
def test_an_output_is_opened_again(tmp_path, make_pixels, options):
    layouts, made = make_pair(tmp_path, **options)
    assert not list((tmp_path / "g.zarr.run" / "staging").glob("new-*"))
    spec = layouts["a"].spec
    data = np.ones(spec.shape, spec.dtype)
    half = Region((0, 0), (10, 30))
    units = made["a"].write(half, data[half.slices])
    leftover = made["a"].staging / "killed"
    leftover.mkdir()
    opened = open_pair(tmp_path, layouts)
    assert str(opened) == str(made)
    assert not leftover.exists()
    assert all(opened["a"].check(unit) is None for unit in units)
    rest = Region((10, 0), (20, 30))
    opened["a"].write(rest, data[rest.slices])
    np.testing.assert_array_equal(opened["a"].image.read(Region.whole(spec.shape)), data)


@pytest.mark.parametrize(
    ("other", "word"),
    [
        (layout((20, 31), (5, 8)), "shape: .20, 30., not .20, 31."),
        (layout((20, 30), (5, 6)), "chunks or shards"),
        (layout((20, 30), (5, 8), (10, 8)), "chunks or shards"),
        (layout((20, 30), (5, 8), dtype="int16"), 'dtype: "uint16", not "int16"'),
        (layout((20, 30), (5, 8), compressor=LZ4), "codecs"),
        (layout((20, 30), (5, 8), nodata=7), "fill value: 0, not 7"),
        (layout((20, 30, 1), (5, 8, 1)), "shape"),
    ],
)
def test_an_output_that_is_stored_otherwise(tmp_path, other, word):
    layouts, _ = make_pair(tmp_path)
    with pytest.raises(StorageError, match=f"tables of b has other {word}"):
        open_pair(tmp_path, {**layouts, "tables of b": other})


def test_codecs_and_axes_are_compared(tmp_path):
    layouts, _ = make_pair(tmp_path, compressor=ZstdCodec(level=3))
    other = layout((20, 30), (5, 8), compressor=ZstdCodec(level=4))
    with pytest.raises(StorageError, match="other codecs"):
        open_pair(tmp_path, {"a": other})
    file = tmp_path / "g.zarr" / "a" / "zarr.json"
    held = json.loads(file.read_text())
    file.write_text(json.dumps({**held, "attributes": {"note": "somebody's own"}}))
    open_pair(tmp_path, layouts)
    file.write_text(json.dumps({**held, "dimension_names": ["x", "y"]}))
    with pytest.raises(StorageError, match="other axes"):
        open_pair(tmp_path, layouts)


def test_an_output_that_is_not_there(tmp_path):
    layouts, _ = make_pair(tmp_path)
    with pytest.raises(
        StorageError, match=r"g.zarr is a Zarr group, where the output has its array"
    ):
        open_output(
            tmp_path / "g.zarr", {"": layouts["a"]}, group=False, staging=tmp_path / "staging"
        )
    with pytest.raises(StorageError, match="c is missing"):
        open_pair(tmp_path, {**layouts, "c": layouts["a"]})
    for text in ("", "[]", "{}", '{"node_type": "array"', '"array"', "\0"):
        (tmp_path / "g.zarr" / "a" / "zarr.json").write_text(text)
        with pytest.raises(StorageError, match=r"g.zarr.a is damaged"):
            open_pair(tmp_path, layouts)
    with pytest.raises(StorageError, match="missing"):
        open_pair(tmp_path / "elsewhere", layouts)


def test_arrays_of_one_output_do_not_share_a_stage(tmp_path, make_pixels):
    _, made = make_pair(tmp_path)
    assert len({output.staging for output in made.values()}) == 2
    for seed, output in enumerate(made.values()):
        output.write(Region.whole((20, 30)), make_pixels((20, 30), seed=seed))
    for seed, output in enumerate(made.values()):
        stored = zarr.open_array(output.image.path, mode="r")[...]
        np.testing.assert_array_equal(stored, make_pixels((20, 30), seed=seed))


def test_an_output_is_created_whole_or_not_at_all(tmp_path, monkeypatch):
    made, real = [], zarr_output._create_array

    def create(*args):
        if made:
            raise OSError("killed here")
        made.append(real(*args))
        return made[0]

    monkeypatch.setattr(zarr_output, "_create_array", create)
    with pytest.raises(OSError, match="killed here"):
        make_pair(tmp_path)
    assert made
    assert not (tmp_path / "g.zarr").exists()


EVERYTHING = [
    "run.json.partial", "job.yaml", "job.yaml.partial", "ledger.jsonl", "ledger-1.jsonl",
    "values-0.npz", "lock", "lock.held", "staging/host-1-2-x/c/0/0",
    "intermediate/0.zarr/zarr.json",
    "removed-x/store/zarr.json",
]  # fmt: skip


def fill(folder):
    for name in EVERYTHING:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("{}")


def test_all_that_a_run_keeps_is_removed_but_the_lock(tmp_path):
    make_pair(tmp_path)
    place, beside = tmp_path / "g.zarr", run_folder(tmp_path / "g.zarr")
    fill(beside)
    assert check_output_path(place, [], overwrite=True) == place
    lock = (beside / "lock").stat().st_ino
    remove_output(place)
    assert [p.name for p in tmp_path.iterdir()] == ["g.zarr.run"]
    assert sorted(p.name for p in beside.iterdir()) == ["lock", "lock.held"]
    assert (beside / "lock").stat().st_ino == lock
    remove_output(place)
    remove_output(tmp_path / "none.zarr")
    assert [p.name for p in tmp_path.iterdir()] == ["g.zarr.run"]


@pytest.mark.parametrize("name", ["notes.txt", "ledger.json", "staging.txt", "run.json", "lockk"])
def test_a_run_folder_with_what_is_not_ours(tmp_path, name):
    beside = run_folder(tmp_path / "out.zarr")
    fill(beside)
    check_output_path(tmp_path / "out.zarr", [], overwrite=False)
    (beside / name).write_text("{}")
    with pytest.raises(StorageError, match="records no run"):
        check_output_path(tmp_path / "out.zarr", [], overwrite=True)


def test_a_run_that_was_killed_while_it_looked_at_its_workers(tmp_path):
    place = tmp_path / "out.zarr"
    run_folder(place).mkdir()
    (run_folder(place) / "lock").touch()
    (run_folder(place) / f".chunkfilt-{'0a' * 16}").touch()
    check_output_path(place, [], overwrite=False)
    remove_output(place)
    assert [one.name for one in run_folder(place).glob("*")] in ([], ["lock"])


def test_a_run_folder_that_is_a_link(tmp_path):
    # Files staged behind it could lie on another disk.
    (tmp_path / "elsewhere").mkdir()
    run_folder(tmp_path / "out.zarr").symlink_to("elsewhere")
    with pytest.raises(StorageError, match="records no run"):
        check_output_path(tmp_path / "out.zarr", [], overwrite=True)


CHECK = """
import sys
from chunkfilt.errors import StorageError
from chunkfilt.storage.zarr_output import check_output_path
try:
    check_output_path(sys.argv[1], [], overwrite=True)
except StorageError as error:
    print(error)
"""


@pytest.mark.parametrize("name", ["out.zarr", "deep/er/out.zarr"])
def test_a_file_system_that_is_read_only(tmp_path, name):
    script = 'mount -t tmpfs none "$1" && mount -o remount,ro "$1" || exit 9; "$2" -c "$3" "$4"'
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["unshare", "-m", "sh", "-c", script, "sh", folder, sys.executable, CHECK]
    done = subprocess.run([*command, folder / name], capture_output=True, text=True, check=False)
    if done.returncode == 9 or "unshare" in done.stderr:
        pytest.skip("mounting is not permitted")
    words = f"{folder} is not a folder that you may write to: Read-only file system"
    assert done.stdout == f"cannot write {folder / name}: {words}\n", done.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
@pytest.mark.parametrize("locked", ["g.zarr", "g.zarr.run"])
def test_an_output_that_may_not_be_written(tmp_path, locked):
    make_pair(tmp_path)
    (tmp_path / locked).chmod(0o500)
    try:
        with pytest.raises(StorageError, match=f"{locked} is not a folder that you may write to"):
            check_output_path(tmp_path / "g.zarr", [], overwrite=True)
    finally:
        (tmp_path / locked).chmod(0o700)


def test_looking_leaves_nothing(tmp_path):
    check_output_path(tmp_path / "a" / "out.zarr", [], overwrite=False)
    assert not list(tmp_path.iterdir())
