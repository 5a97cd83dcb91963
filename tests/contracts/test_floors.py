"""Imports go down, never up and never round: read from the source, inside functions too."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import chunkfilt

ROOT = Path(chunkfilt.__file__).parent
# The floor of every module; a package's stands for all its modules but those named.
FLOORS = {
    "errors": 0,
    "grid": 0,
    "edges": 0,
    "_optional": 0,
    "kernels": 1,
    "filters": 2,
    "engine": 3,
    "storage": 3,
    "runtime": 4,
    "config": 4,
    "words": 0,
    "documents": 0,
    "config_parts": 4,
    "config_document": 4,
    "show": 5,
    "arrays": 5,
    "arrays.stubs": 6,  # writes __init__.pyi
    "cli": 6,
    "cli_options": 6,
    "cli_outputs": 6,
    "demo": 6,
    "_survey": 6,
    "__main__": 6,
    "__init__": 6,
}
# Neighbours on one floor that must not know each other: (importer, imported).
APART = {("engine", "storage"), ("storage", "engine"), ("show", "arrays")}


def module_of(file):
    """Return a module's name below ``chunkfilt``; a package's is its folder's."""
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


MODULES = {module_of(file): file for file in sorted(ROOT.rglob("*.py"))}


def floor_of(module):
    for name in (module, module.partition(".")[0]):
        if name in FLOORS:
            return FLOORS[name]
    message = f"chunkfilt.{module} has no floor: add it to FLOORS and to the design"
    raise AssertionError(message)


def known(name):
    """Return the module that a dotted name below ``chunkfilt`` belongs to."""
    while name and name not in MODULES:
        name = name.rpartition(".")[0]
    return name or "__init__"


def imports_of(module):
    """Return the modules of chunkfilt that a module imports, anywhere in its text."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: a relative import, line {node.lineno}"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            top, _, rest = name.partition(".")
            if top == "chunkfilt":
                found.add(known(rest))
    return found - {module}


def test_the_walk_sees_what_is_there():
    assert {"errors", "grid", "kernels.box", "engine.graph", "runtime.run"} <= set(MODULES)
    assert {"edges", "filters.filter", "grid"} <= imports_of("engine.graph")
    assert "kernels.box" in imports_of("filters.windows")


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_go_down(module):
    own = floor_of(module)
    top = module.partition(".")[0]
    for other in sorted(imports_of(module)):
        assert floor_of(other) <= own, f"chunkfilt.{module} (F{own}) imports chunkfilt.{other}"
        apart = (top, other.partition(".")[0])
        assert apart not in APART, f"chunkfilt.{module} imports chunkfilt.{other}"


def test_no_module_reaches_itself():
    # The lazy table of the package's face names modules without importing them.
    graph = {module: imports_of(module) for module in MODULES if module != "__init__"}
    done, path = set(), []

    def visit(module):
        assert module not in path, f"a circle: {' -> '.join([*path, module])}"
        if module in done or module not in graph:
            return
        path.append(module)
        for other in sorted(graph[module]):
            visit(other)
        path.pop()
        done.add(module)

    for module in graph:
        visit(module)


def loaded_after(statement):
    """Return the top-level modules that a fresh interpreter has loaded after a statement."""
    code = f"import sys; {statement}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=120
    )
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import chunkfilt", "numpy dask distributed zarr numba scipy pydantic rich typer"),
        ("import chunkfilt; chunkfilt.__version__", "numpy dask zarr numba scipy pydantic"),
        ("import chunkfilt.kernels", "dask distributed zarr pydantic"),
        (
            "import chunkfilt.kernels.box, chunkfilt.kernels.rank, chunkfilt.kernels.separable",
            "dask distributed zarr pydantic",
        ),
        ("import chunkfilt.filters", "dask distributed zarr"),
        ("import chunkfilt.engine.plan, chunkfilt.engine.evaluate", "dask distributed zarr"),
        ("import chunkfilt.storage.zarr_store", "dask distributed numba pydantic"),
        ("import chunkfilt.cli", "numpy dask distributed zarr numba scipy"),
        ("import chunkfilt as cf; cf.mean([1.0, 2.0])", "dask distributed skimage matplotlib"),
    ],
)
def test_what_is_not_needed_is_not_loaded(statement, absent):
    assert not loaded_after(statement) & set(absent.split())
