"""What the examples in docstrings find in their folder: a mosaic and a job."""

import pytest
import zarr


@pytest.fixture(scope="session")
def docs_folder(tmp_path_factory):
    """A folder with ``mosaic.zarr`` (100 x 120 pixels, y x) and ``job.yaml``."""
    folder = tmp_path_factory.mktemp("docs")
    mosaic = zarr.create_array(
        str(folder / "mosaic.zarr"),
        shape=(100, 120),
        chunks=(50, 50),
        dtype="uint16",
        dimension_names=["y", "x"],
    )
    mosaic[:] = 7
    (folder / "job.yaml").write_text(
        "version: 1\ninput: mosaic.zarr\nsteps: [{mean: {size: 5}}]\noutput: smooth.zarr\n"
    )
    return folder


@pytest.fixture(autouse=True)
def _examples_run_there(request, monkeypatch):
    if isinstance(request.node, pytest.DoctestItem):
        monkeypatch.chdir(request.getfixturevalue("docs_folder"))
