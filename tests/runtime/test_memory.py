"""Peak memory: known before the run, and the same for an image twice as large."""

import json
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import zarr

RUN = """
    import json, pathlib, sys
    import chunkfilt as cf
    source, target = sys.argv[1:3]
    m = cf.open(source)
    outputs = {"mean": cf.mean(m, size=15), "var": cf.variance(m, size=15)}
    result = cf.save(outputs, target, memory="400 MiB", workers=2, overwrite=True, progress=False)
    # Not getrusage: on Linux its peak is that of the process that started this one, if larger.
    status = pathlib.Path("/proc/self/status").read_text()
    peak = int(status.partition("VmHWM:")[2].split()[0]) * 1024
    print(json.dumps({"peak": peak, "plan": result.plan.as_dict()}))
"""


def measure(source, target):
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(RUN), str(source), str(target)],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def tiled(path, rows):
    """Write a mosaic of 4096 columns, a strip at a time."""
    tile = np.random.default_rng(0).integers(0, 4000, (512, 4096), dtype="uint16")
    held = zarr.create_array(
        str(path), shape=(rows, 4096), dtype="uint16", chunks=(512, 512),
        compressors=None, dimension_names=["y", "x"],
    )  # fmt: skip
    for row in range(0, rows, 512):
        held[row : row + 512] = tile
    return path


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_peak_is_the_plans_and_does_not_grow(tmp_path):
    # Whatever has never run here is compiled first: a compiler's memory is not a run's.
    measure(tiled(tmp_path / "warm", 512), tmp_path / "o")
    small = measure(tiled(tmp_path / "small", 4096), tmp_path / "o")
    large = measure(tiled(tmp_path / "large", 8192), tmp_path / "o")
    for one in (small, large):
        assert one["plan"]["peak"] <= 400 << 20
        assert one["peak"] <= one["plan"]["peak"]
        assert one["plan"]["blocks"] > 2
    assert large["peak"] <= 1.15 * small["peak"]
