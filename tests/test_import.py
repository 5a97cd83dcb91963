"""What an import costs, and which names the package has."""

import importlib
import pkgutil
import subprocess
import sys

import pytest

import chunkfilt
from chunkfilt.filters.filter import registered

HEAVY = {
    "numpy", "dask", "distributed", "zarr", "zarrs", "numba", "llvmlite", "scipy", "pydantic",
    "rich", "typer", "PIL", "skimage", "matplotlib", "ruamel", "numcodecs",
}  # fmt: skip
KEPT = [
    "allow_code",
    "Image", "LazyValue", "__version__", "ball", "disk", "ellipse", "from_yaml", "image_filter",
    "open", "plan", "preview", "ring", "run_yaml", "save", "to_yaml", "value_filter",
]  # fmt: skip


def python(*arguments):
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done


def imported(code):
    """Return the top-level packages that running `code` imports, by -X importtime."""
    lines = python("-X", "importtime", "-c", code).stderr.splitlines()
    names = [line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")]
    assert "chunkfilt" in names
    return {name.partition(".")[0] for name in names}


def test_importing_the_package_is_free():
    assert not imported("import chunkfilt") & HEAVY


def test_importing_the_command_line_is_cheap():
    light = {"typer", "rich"}
    assert not imported("import chunkfilt.cli") & (HEAVY - light)


def test_help_and_version_need_nothing_heavy():
    code = "import sys; sys.argv = ['chunkfilt', '--help']; import chunkfilt.cli as c; c.main()"
    assert not imported(code) & (HEAVY - {"typer", "rich"})


def test_kernels_load_no_dask_and_no_zarr():
    assert not imported("import chunkfilt.kernels") & {"dask", "distributed", "zarr", "pydantic"}


def test_a_name_is_loaded_on_use():
    found = imported("import chunkfilt; chunkfilt.disk(3)")
    assert not found & {"dask", "distributed", "zarr"}
    found = imported("import chunkfilt, numpy; chunkfilt.mean(numpy.ones((4, 4)), size=3)")
    assert not found & {"dask", "distributed", "PIL", "skimage"}


def test_all_is_exact():
    assert chunkfilt.__all__ == sorted({*KEPT, *registered()})
    for name in chunkfilt.__all__:
        assert getattr(chunkfilt, name) is not None
    for name in registered():
        assert getattr(chunkfilt, name).filter is registered()[name]
        assert getattr(chunkfilt, name).__doc__
    assert set(chunkfilt.__all__) <= set(dir(chunkfilt))


def test_a_star_import_brings_exactly_these():
    code = (
        "import chunkfilt; before = set(globals()); from chunkfilt import *;"
        "new = set(globals()) - before - {'before'};"
        "assert new == set(chunkfilt.__all__), new ^ set(chunkfilt.__all__)"
    )
    python("-W", "error", "-c", code)


def test_names_that_are_not_there():
    for name in ("gausian", "_private", "np", "Filter"):
        with pytest.raises(AttributeError, match=f"no attribute '{name}'"):
            getattr(chunkfilt, name)
        assert not hasattr(chunkfilt, name)


def modules():
    found = pkgutil.walk_packages(chunkfilt.__path__, "chunkfilt.")
    return sorted(one.name for one in found if not one.name.endswith("__main__"))


def test_every_module_can_be_the_first_to_be_imported():
    wrong = {}
    code = (
        "import importlib, os, sys\n"
        "import numpy, numba, zarr, pydantic, scipy, ruamel.yaml\n"
        "for name in sys.argv[1:]:\n"
        "    child = os.fork()\n"
        "    if child == 0:\n"
        "        try:\n"
        "            importlib.import_module(name)\n"
        "        except BaseException as error:\n"
        "            print(name, repr(error), flush=True)\n"
        "        os._exit(0)\n"
        "    os.waitpid(child, 0)\n"
    )
    if not hasattr(__import__("os"), "fork"):
        pytest.skip("needs fork")
    for line in python("-W", "ignore", "-c", code, *modules()).stdout.splitlines():
        wrong[line.partition(" ")[0]] = line
    assert not wrong


@pytest.mark.parametrize("name", modules())
def test_all_of_every_module_is_there(name):
    module = importlib.import_module(name)
    for one in getattr(module, "__all__", []):
        assert hasattr(module, one), one
