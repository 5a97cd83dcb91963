"""Where compiled kernels are kept: also where nobody may write beside the package or at home."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numba
import pytest

import chunkfilt
from chunkfilt.kernels import _common

PROGRAM = """
import numpy as np
from chunkfilt.kernels import _common, checksum
print(checksum.image_checksum(np.ones((4, 4), "uint8"), (0, 0), (4, 4)))
print(_common.__file__)
print(_common._cache_found())
"""


@pytest.fixture
def searched(monkeypatch, tmp_path):
    """Let the search begin anew, in an empty folder for temporary files."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    monkeypatch.setenv("NUMBA_CACHE_DIR", "")
    _common._cache_found.cache_clear()
    yield tmp_path / f"chunkfilt-numba-{os.getuid()}"
    _common._cache_found.cache_clear()


def test_numba_chooses_where_it_can(searched):
    assert _common._cache_found()
    assert not searched.exists()
    assert numba.config.CACHE_DIR == ""


def test_else_a_folder_of_our_own(searched, monkeypatch):
    monkeypatch.setattr(
        _common, "_numba_finds_folder", lambda: str(searched) == numba.config.CACHE_DIR
    )
    assert _common._cache_found()
    assert searched.stat().st_mode & 0o777 == 0o700
    assert os.environ["NUMBA_CACHE_DIR"] == str(searched)
    _common._cache_found.cache_clear()
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    assert _common._cache_found()  # it is there already, and ours


def _of_all(folder):
    folder.mkdir()
    folder.chmod(0o777)


def _a_link(folder):
    folder.with_name("elsewhere").mkdir(mode=0o700)
    folder.symlink_to(folder.with_name("elsewhere"))


@pytest.mark.parametrize("prepared", [_of_all, _a_link, Path.touch])
def test_a_folder_that_others_could_fill_is_refused(searched, monkeypatch, prepared):
    prepared(searched)
    monkeypatch.setattr(_common, "_numba_finds_folder", lambda: bool(numba.config.CACHE_DIR))
    assert not _common._cache_found()
    assert numba.config.CACHE_DIR == ""
    assert _common.jit(lambda x: x + 1)(2) == 3  # compiled, and not kept


def test_one_of_another_user_is_refused(searched, monkeypatch):
    searched.mkdir(mode=0o700)
    assert _common._private_folder() == searched
    user = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: user + 1)
    searched.rename(searched.with_name(f"chunkfilt-numba-{user + 1}"))
    assert _common._private_folder() is None


def test_a_package_and_a_home_that_nobody_writes_to(tmp_path):
    place = tmp_path / "site" / "chunkfilt"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(chunkfilt.__file__).parent, place, ignore=ignored)
    (place / "kernels" / "__pycache__").touch()  # a file: not even root can write into it
    (tmp_path / "temporary").mkdir()
    environment = {
        **os.environ,
        "PYTHONPATH": str(place.parent),
        "HOME": "/proc/none",
        "XDG_CACHE_HOME": "/proc/none",
        "TMPDIR": str(tmp_path / "temporary"),
    }
    environment.pop("NUMBA_CACHE_DIR", None)
    said = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        said.append(done.stdout.split())
        kept = sorted((tmp_path / "temporary").rglob("*.nbc"))
        said[-1].append({file.name: file.stat().st_mtime_ns for file in kept})
    assert said[0] == said[1]
    assert said[0][1:3] == [str(place / "kernels" / "_common.py"), "True"]
    assert said[0][3]
