"""The pages in docs/: jobs are valid, commands and options exist, tables are complete, what can be
run is run."""

import ast
import contextlib
import dataclasses
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import typing
from pathlib import Path

import numpy as np
import pytest
import typer
from ruamel.yaml import YAML

from chunkfilt.cli import app
from chunkfilt.config import load_job
from chunkfilt.runtime import progress
from chunkfilt.runtime.progress import BlockDone, Event

DOCS = Path(__file__).parent.parent / "docs"
PAGES = ("runs.md", "clusters.md")
BIN = Path(sys.executable).parent


def blocks(page, language, heading=None):
    """The fenced blocks of a page, or of its part under a heading."""
    text = (DOCS / page).read_text(encoding="utf-8")
    if heading is not None:
        text = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", text, flags=re.S | re.M)[1]
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.S | re.M)


def every_block(language):
    return [
        pytest.param(block, id=f"{page}-{number}")
        for page in PAGES
        for number, block in enumerate(blocks(page, language))
    ]


@pytest.fixture
def place(tmp_path, make_store, make_pixels):
    """A folder with an image called as in the pages."""
    make_store(tmp_path / "mosaic.zarr", make_pixels((64, 80)), chunks=(16, 16), dims="yx")
    return tmp_path


@pytest.mark.parametrize("block", every_block("yaml"))
def test_yaml_is_a_job_or_a_manifest(block, place):
    data = YAML(typ="safe", pure=True).load(block)
    if "apiVersion" in data:
        assert data.keys() == {"apiVersion", "kind", "metadata", "spec"}
        assert data["metadata"]["name"].startswith("chunkfilt")
        return
    whole = block
    if "version" not in data:
        # Only the part that differs is shown: it belongs to the page's job.
        assert data.keys() == {"run"}
        whole = blocks("clusters.md", "yaml")[0].partition("run:\n")[0] + block
    (place / "job.yaml").write_text(whole, encoding="utf-8")
    built = load_job(place / "job.yaml").build()
    assert built.outputs
    assert built.options.memory == built.options.budget >= 1 << 30


@pytest.mark.parametrize("block", every_block("python"))
def test_python_compiles_and_names_what_there_is(block):
    import chunkfilt

    tree = ast.parse(block)
    compile(tree, "page", "exec")
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "cf"
    }
    assert used
    assert used <= set(chunkfilt.__all__)


def commands():
    """The command lines of chunkfilt that the pages show."""
    found = []
    for page in PAGES:
        for block in blocks(page, "console") + blocks(page, "sh"):
            joined = block.replace("\\\n", " ")
            lines = (line.strip().removeprefix("$ ") for line in joined.splitlines())
            found += [line for line in lines if line.startswith("chunkfilt ")]
    return list(dict.fromkeys(found))


@pytest.mark.parametrize("line", commands())
def test_commands_and_their_options_exist(line):
    _, name, *words = shlex.split(line.removesuffix("&").strip())
    command = typer.main.get_command(app).commands[name]
    known = {option for param in command.params for option in param.opts}
    for word in words:
        assert not word.startswith("-") or word in known, word


def test_shell_blocks_are_shell():
    for page in PAGES:
        for block in blocks(page, "sh"):
            subprocess.run(["bash", "-n"], input=block, text=True, check=True)


def test_the_table_of_events_is_complete():
    """Every field of every event stands in the table, once, and nothing else."""
    text = (DOCS / "runs.md").read_text(encoding="utf-8")
    table = re.search(r"^\| event \| field .*?\n\n", text + "\n", flags=re.S | re.M)[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:-1]]
    told, event = [], None
    for name, field, meaning in rows:
        event = name.strip("`") or event
        assert meaning
        told.append((event, field.strip("`")))
    kinds = typing.get_args(Event)
    expected = [
        (kind.__name__, field)
        for kind in kinds
        for field in [one.name for one in dataclasses.fields(kind)] or [""]
    ]
    expected.append((BlockDone.__name__, "seconds_left"))
    assert sorted(told) == sorted(expected)
    assert {kind.__name__ for kind in kinds} <= set(progress.__all__)


def test_links_exist():
    for page in PAGES:
        for target in re.findall(r"\]\((?!http)(.*?)\)", (DOCS / page).read_text()):
            assert (DOCS / target).exists(), target


def test_the_cluster_on_one_machine(place):
    """The page's commands as they stand: a scheduler, two workers, the run, the end of all."""
    (block,) = blocks("clusters.md", "sh", "On one machine")
    job = blocks("clusters.md", "yaml")[0]
    (place / "job.yaml").write_text(job, encoding="utf-8")
    path = os.pathsep.join([str(BIN), os.environ["PATH"]])
    log = place / "shell.log"
    with log.open("w") as out:
        shell = subprocess.Popen(
            ["bash", "-e", "-c", block],
            cwd=place,
            env={**os.environ, "PATH": path},
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        code = shell.wait(timeout=100)
    finally:
        # The shell leads a session of its own: what it has left behind is ended with it.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(shell.pid, signal.SIGKILL)
        shell.wait()
    assert code == 0, log.read_text()
    assert "done in" in (place / "run.log").read_text()
    from scipy import ndimage

    import chunkfilt as cf

    image = cf.open(place / "mosaic.zarr")[:]
    expected = ndimage.gaussian_filter(image.astype(float), 2)
    np.testing.assert_allclose(cf.open(place / "smooth.zarr")[:], expected, rtol=1e-6, atol=1e-2)
    held = json.loads((place / "smooth.zarr.run" / "run.json").read_text())
    assert held["finished"] is True
    assert held["sessions"][-1]["scheduler"] == "distributed"
