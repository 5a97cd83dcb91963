"""The jobs in config/ run, as they stand, on the demo's data, and give what SciPy gives."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

import chunkfilt as cf
from chunkfilt.config import load_job
from chunkfilt.demo import make_demo

CONFIG = Path(__file__).parent.parent / "config"
JOBS = sorted(path.name for path in CONFIG.glob("*.yaml"))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with config/ and demo/ side by side, as in a checkout."""
    folder = tmp_path_factory.mktemp("checkout")
    (folder / "config").mkdir()
    for name in JOBS:
        (folder / "config" / name).write_text((CONFIG / name).read_text())
    make_demo(folder / "demo", shape=(2500, 2048))
    return folder


def test_the_promised_jobs_are_there():
    promised = {"quickstart", "gabor_features", "local_variance", "equalize", "cluster"}
    assert promised <= {Path(name).stem for name in JOBS}


@pytest.mark.parametrize("name", JOBS)
def test_job_runs(place, name):
    # In a process of its own: the memory budget counts what the process holds already.
    job = place / "config" / name
    subprocess.run([sys.executable, "-m", "chunkfilt", "run", job], check=True, timeout=300)
    made = cf.from_yaml(job)
    path = load_job(job).build().path
    for array, image in made.items() if isinstance(made, dict) else [(None, made)]:
        saved = cf.open(path, array)
        assert saved.shape == image.shape
        window = (slice(1000, 1300), slice(900, 1200))
        np.testing.assert_array_equal(saved[window], image[window])


def test_roughness_is_the_variance_around_every_pixel(place):
    path = place / "config" / "local_variance.yaml"
    cf.run_yaml(path, "output.path=../demo/again.zarr", progress=False)
    terrain = cf.open(place / "demo" / "elevation.zarr")[...].astype(float)
    mean = ndimage.uniform_filter(terrain, 15)
    expected = ndimage.uniform_filter((terrain - 500) ** 2, 15) - (mean - 500) ** 2
    found = cf.open(place / "demo" / "again.zarr", "roughness")[...]
    assert abs(found - expected).max() <= 1e-6 * expected.max()
