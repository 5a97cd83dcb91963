"""Runs that nothing happens to, for those that something happens to be compared with."""

import pytest

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
