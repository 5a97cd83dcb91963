"""The stub that editors read is what the declarations say."""

from pathlib import Path

import chunkfilt
from chunkfilt.arrays.stubs import stub_text


def test_stub_is_current():
    held = Path(chunkfilt.__file__).with_name("__init__.pyi").read_text()
    assert held == stub_text(), "run `make stubs`"
