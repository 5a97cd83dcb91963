"""Another package brings filters by the entry point ``chunkfilt.filters``."""

import os
import subprocess
import sys

PLUGIN = '''
import chunkfilt as cf


@cf.image_filter(halo=lambda p: ((p.reach, p.reach),) * p.ndim, dtype=lambda p, dtypes: dtypes[0])
def spread(block, *, reach: int = 1):
    """Take the pixel `reach` to the right of the centre."""
    r = reach
    return block[(slice(None), *(slice(r, -r),) * (block.ndim - 2), slice(2 * r, None))]
'''
USE = """
import numpy as np
import chunkfilt as cf

assert "spread" in cf.__all__
image = np.arange(12).reshape(3, 4)
assert (cf.spread(image, mode="wrap") == np.roll(image, -1, axis=1)).all()
"""
JOB = """
version: 1
input: in.zarr
steps: [{spread: {reach: 2, mode: wrap}}]
output: out.zarr
"""


def test_a_package_brings_a_filter(tmp_path, make_store, make_pixels):
    info = tmp_path / "site" / "chunkfilt_spread-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: chunkfilt-spread\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[chunkfilt.filters]\nspread = chunkfilt_spread\n")
    (tmp_path / "site" / "chunkfilt_spread.py").write_text(PLUGIN)
    make_store(tmp_path / "in.zarr", make_pixels((20, 30)), dims="yx")
    (tmp_path / "job.yaml").write_text(JOB)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    for command in (
        [sys.executable, "-W", "error", "-c", USE],
        [sys.executable, "-m", "chunkfilt", "filters", "spread"],
        [sys.executable, "-m", "chunkfilt", "run", "job.yaml", "--scheduler", "distributed",
         "--workers", "1"],
    ):  # fmt: skip
        done = subprocess.run(
            command,
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "out.zarr" / "zarr.json").is_file()
