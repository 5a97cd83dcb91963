"""Files of an output that are damaged after they were written: named, and mended."""

import shutil

import pytest

from tests.faults.rig import contents, same

SHARDED = ("--set", "output.chunks=[64, 64]", "--set", "output.shards=[256, 256]")


def truncated(size):
    return lambda text: text[:size]


def flipped(at):
    def change(text):
        held = bytearray(text)
        held[at] ^= 0x10
        return bytes(held)

    return change


DAMAGE = {
    "is 0 bytes instead of": truncated(0),
    "is 1 bytes instead of": truncated(1),
    "bytes instead of": truncated(-1),
    "is not what was written": flipped(0),
    "is not what was written ": flipped(-1),
    "is not what was written  ": flipped(-5),  # within a shard's index, which has a sum of its own
    "is not what was written   ": lambda text: flipped(len(text) // 2)(text),
    "bytes instead of ": lambda text: text + b"\0",
    "is missing": None,
}


@pytest.fixture(scope="module", params=["chunks", "shards"])
def stored(request, whole, tmp_path_factory):
    """An output in chunks or shards, and the options of its run."""
    if request.param == "chunks":
        return whole, ()
    rig = whole.copy(tmp_path_factory.mktemp("shards") / "rig")
    rig.clear()
    rig.run(*SHARDED)
    return rig, SHARDED


def damage(rig):
    """Damage files of an output, each in another way; return what verify is to say of each."""
    files = sorted(name for name in contents(rig.out) if "/c/" in name)
    expected = []
    for name, (told, change) in zip(files[1::3], DAMAGE.items(), strict=False):
        file = rig.out / name
        if change is None:
            file.unlink()
        else:
            file.write_bytes(change(file.read_bytes()))
        expected.append((name, told.strip()))
    assert len(expected) == len(DAMAGE)
    return expected


@pytest.mark.parametrize("mend", ["resume", "repair"])
def test_damaged_files_are_named_and_mended(stored, tmp_path, here, run_here, mend):
    whole, options = stored
    rig = whole.copy(tmp_path / "rig")
    expected = damage(rig)
    before = contents(rig.out)
    said = here(rig, "verify", "out.zarr", expect=4)
    for name, told in expected:
        assert any(name in line and told in line for line in said.splitlines()), (name, said)
    assert f"{len(expected)} problems" in said
    assert contents(rig.out) == before
    if mend == "repair":
        said = here(rig, "verify", "out.zarr", "--repair", "--allow-code")
        for name, _ in expected:
            assert any("repairing" in line and name in line for line in said.splitlines())
    else:
        run_here(rig, "--resume", *options)
        here(rig, "verify", "out.zarr")
    # The intermediate is gone with the run that kept it: damaged blocks are computed without it.
    session = rig.record()["sessions"][-1]
    assert session["resumed"] >= 16
    assert session["blocks"] + session["resumed"] == 24
    same(rig, whole)


@pytest.mark.parametrize(
    "name",
    [
        "ground/zarr.json",
        pytest.param("zarr.json", marks=pytest.mark.faults),
        pytest.param("equalize_hist/zarr.json", marks=pytest.mark.faults),
    ],
)
def test_damaged_metadata_is_told_never_resumed(whole, tmp_path, here, run_here, name):
    rig = whole.copy(tmp_path / "rig")
    file = rig.out / name
    file.write_bytes(file.read_bytes()[:-30])
    here(rig, "verify", "out.zarr", expect=2)
    said = run_here(rig, "--resume", expect=2)
    assert str(file.parent.relative_to(rig.folder)) in said
    run_here(rig, "--overwrite")
    same(rig, whole)


def test_a_damaged_intermediate_is_computed_again(rig, whole, run_here):
    from tests.faults.test_records import _NO_RECORD, WORDS

    rig.script(_NO_RECORD, "19", *WORDS, expect=-9)
    (kept,) = (rig.folder / "out.zarr.run" / "intermediate").iterdir()
    files = [file for file in sorted(kept.rglob("*")) if "c" in file.parts and file.is_file()]
    files[0].write_bytes(b"")
    files[1].write_bytes(flipped(7)(files[1].read_bytes()))
    files[2].unlink()
    run_here(rig, "--resume")
    same(rig, whole)


def test_an_intermediate_that_is_gone(rig, whole, run_here):
    from tests.faults.test_records import _NO_RECORD, WORDS

    rig.script(_NO_RECORD, "19", *WORDS, expect=-9)
    shutil.rmtree(rig.folder / "out.zarr.run" / "intermediate")
    run_here(rig, "--resume")
    same(rig, whole)
