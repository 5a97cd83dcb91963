"""The notebooks run from the first cell to the last; in git they hold no outputs."""

import os
import shutil
from pathlib import Path

import nbformat
import pytest

FOLDER = Path(__file__).parent.parent / "notebooks"
NOTEBOOKS = sorted(path.name for path in FOLDER.glob("*.ipynb"))
# How many pictures, and tables of images and plans, there are to look at.
SHOWN = {"quickstart.ipynb": (6, 3), "filter_gallery.ipynb": (8, 0)}


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_no_outputs_in_git(name):
    notebook = nbformat.read(FOLDER / name, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert cells
    assert all(not cell.outputs and cell.execution_count is None for cell in cells)


@pytest.mark.parametrize("name", NOTEBOOKS)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_notebook_runs(tmp_path, name, monkeypatch, demo):
    from nbclient import NotebookClient

    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    work = tmp_path / "notebooks"
    work.mkdir()
    # What is complete is not made again.
    shutil.copytree(demo, tmp_path / "demo")
    notebook = nbformat.read(FOLDER / name, as_version=4)
    resources = {"metadata": {"path": str(work)}}
    NotebookClient(notebook, timeout=300, resources=resources, env=dict(os.environ)).execute()
    shown = [
        kind
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        for kind in output.get("data", {})
    ]
    pictures, tables = SHOWN[name]
    assert shown.count("image/png") >= pictures
    assert shown.count("text/html") >= tables
    if name == "quickstart.ipynb":
        assert (tmp_path / "demo" / "notebook_features.zarr" / "mean").is_dir()
