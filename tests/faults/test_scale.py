"""An image sixteen times as large takes as much memory, which the plan has foretold."""

import json
import re
import textwrap

import numpy as np
import pytest
import zarr

from tests.faults.rig import Rig

JOB = """
version: 1
input: in.zarr
steps:
  - gaussian: {sigma: 2.0}
  - median: {size: 5}
    name: middle
  - mean: {size: 9}
    name: smooth
  - equalize_hist
output:
  path: out.zarr
  save: [middle, smooth, equalize_hist]
run: {workers: 2, memory: 500 MiB}
"""


def peak_of(tmp_path, size, *options):
    """Run the job on an image of `size` pixels a side; return the peak, the plan's, the blocks."""
    folder = tmp_path / str(size)
    folder.mkdir()
    stored = zarr.create_array(
        str(folder / "in.zarr"),
        shape=(size, size),
        chunks=(256, 256),
        dtype="uint16",
        dimension_names=["y", "x"],
    )
    rng = np.random.default_rng(size)
    for top in range(0, size, 256):
        stored[top : top + 256] = rng.integers(0, 1 << 12, (256, size), dtype="u2")
    (folder / "job.yaml").write_text(textwrap.dedent(JOB))
    rig = Rig(folder)
    lines = rig.run("--json", *options).splitlines()
    finished = [json.loads(line) for line in lines if line[0] == "{"][-1]
    assert finished["event"] == "RunFinished"
    status = rig.record()["sessions"][-1]["peak"]
    return max(finished["peak"], status), finished["planned_memory"], finished["blocks"]


@pytest.mark.faults
@pytest.mark.parametrize("scheduler", ["threads", "processes"])
def test_sixteen_times_the_pixels(tmp_path, scheduler):
    small, planned, few = peak_of(tmp_path, 2048, "--scheduler", scheduler)
    large, foretold, many = peak_of(tmp_path, 8192, "--scheduler", scheduler)
    assert many > few
    assert small <= planned <= 500 << 20
    assert large <= foretold <= 500 << 20
    # A block may be larger where the image is, within the budget; the image itself has no part.
    assert large - small < 100 << 20


@pytest.mark.faults
def test_the_process_itself_says_so(tmp_path):
    """What a run reports is what the kernel has counted for its process."""
    peak_of(tmp_path, 2048)
    rig = Rig(tmp_path / "2048")
    script = """
    import atexit, os, sys
    from chunkfilt import cli
    def status():
        text = open("/proc/self/status").read()
        print("VmHWM", int(text.partition("VmHWM:")[2].split()[0]) << 10)
    atexit.register(status)
    cli.main()
    """
    said = rig.script(script, "run", "job.yaml", "--overwrite")
    counted = int(re.search(r"VmHWM (\d+)", said)[1])
    assert abs(counted - rig.record()["sessions"][-1]["peak"]) < 16 << 20
    assert counted <= 500 << 20
