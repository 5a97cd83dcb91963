"""Everything the README shows is run: the Python, the YAML, the commands."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"


@pytest.fixture(scope="module")
def place(tmp_path_factory, demo):
    folder = tmp_path_factory.mktemp("readme")
    shutil.copytree(demo, folder / "demo")
    return folder


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(), flags=re.S)


@pytest.mark.parametrize("number", range(len(blocks("python"))))
def test_python_runs(place, number):
    # In a process of its own, as a reader would; what it declares stays there.
    code = blocks("python")[number]
    subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=place, check=True, timeout=300)
    if number == 0:
        assert (place / "demo" / "features.zarr" / "var").is_dir()
    pictures = re.findall(r'save\("(.*?\.png)"\)', blocks("python")[number])
    assert pictures
    for picture in pictures:
        assert (place / picture).read_bytes().startswith(b"\x89PNG")


def test_the_yaml_runs_by_the_commands(place):
    (place / "job.yaml").write_text(blocks("yaml")[0])
    (commands,) = blocks("console")
    lines = [line.removeprefix("$ ") for line in commands.strip().splitlines()]
    assert len(lines) >= 5
    for line in lines:
        # In a process of its own: the memory budget counts what the process holds already.
        command = [sys.executable, "-m", *shlex.split(line)]
        done = subprocess.run(
            command, cwd=place, check=True, capture_output=True, text=True, timeout=300
        )
        assert done.stdout
    assert (place / "demo" / "g_mean.png").read_bytes().startswith(b"\x89PNG")
    assert (place / "demo" / "smooth.zarr").is_dir()


def test_links_and_targets_exist():
    text = README.read_text()
    for target in re.findall(r"\]\((?!http)(.*?)\)", text):
        assert (README.parent / target).exists(), target
    makefile = (README.parent / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", text, flags=re.M):
        assert re.search(rf"^{target}:", makefile, flags=re.M), target
