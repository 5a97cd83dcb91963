"""Runs that nothing happens to, for those that something happens to be compared with."""

import sys

import pytest

from chunkfilt.filters.generic import allow_code_always
from tests.faults.rig import Rig


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """A small job, run to its end."""
    rig = Rig(tmp_path_factory.mktemp("whole") / "rig")
    rig.run("--workers", "4")
    return rig


@pytest.fixture
def rig(whole, tmp_path):
    """The same job, not yet run."""
    mine = whole.copy(tmp_path / "rig")
    mine.clear()
    return mine


@pytest.fixture
def here(cli, monkeypatch):
    """Carry out a command of a rig's in this process, and return what it says.

    To start Python takes longer than most of them.
    """
    monkeypatch.setattr(sys, "path", list(sys.path))

    def call(rig, *words, expect=0):
        sys.modules.pop("faulty", None)
        monkeypatch.chdir(rig.folder)
        code, out, err = cli(*words)
        assert code == expect, (code, out, err)
        return out + err

    yield call
    sys.modules.pop("faulty", None)
    allow_code_always(False)


@pytest.fixture
def run_here(here):
    """Carry a rig's job out in this process, as `Rig.run` does in another."""
    return lambda rig, *options, **how: here(
        rig, "run", "job.yaml", "--allow-code", *options, **how
    )
