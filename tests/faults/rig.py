"""Runs that are hurt: a job in a folder of its own, begun as the command line does it.

The job's own function, `grind`, obeys the file ``fault.json`` beside it: it is slow, or fails in
some way where a window holds the marked pixel.  What is stored never depends on that file.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import zarr

__all__ = [
    "JOB",
    "MARK",
    "Cluster",
    "Rig",
    "contents",
    "kill_group",
    "make_input",
    "same",
    "wait_for",
]

MARK = 65535
ROOT = str(Path(__file__).parents[2])
JOB = """
version: 1
input: in.zarr
steps:
  - generic: {function: "faulty:grind", size: 3, vectorized: true}
    name: ground
  - median: {size: 5}
    input: ground
    name: middle
  - equalize_hist
output:
  path: out.zarr
  save: [ground, equalize_hist]
"""
_FUNCTION = """
import ctypes
import json
import os
import signal
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent


def grind(windows, axis=-1):
    try:
        fault = json.loads((HERE / "fault.json").read_text())
    except FileNotFoundError:
        fault = {}
    if fault.get("trace"):
        with (HERE / "calls").open("ab") as calls:
            calls.write(b".")
    time.sleep(fault.get("pause", 0))
    if "do" in fault and (windows == 65535).any() and first(fault):
        act(fault)
    return windows.max(axis=axis)


def first(fault):
    \"\"\"Whether this happens for one of the first so many times.\"\"\"
    for i in range(fault.get("times", 1 << 30)):
        try:
            (HERE / f"happened-{i}").touch(exist_ok=False)
        except FileExistsError:
            continue
        return True
    return False


def act(fault):
    match fault["do"]:
        case "raise":
            raise ArithmeticError("the marked pixel")
        case "exit":
            os._exit(3)
        case "segv":
            ctypes.string_at(0)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "sleep":
            time.sleep(fault["seconds"])
        case "hold":  # the interpreter's lock
            sys.setswitchinterval(1000)
            until = time.monotonic() + fault["seconds"]
            while time.monotonic() < until:
                pass
            sys.setswitchinterval(0.005)
"""


def make_input(folder, shape, chunks, **options):
    """Write ``in.zarr``: seeded pixels, one of them marked."""
    rng = np.random.default_rng(5)
    y, x = np.indices(shape)
    pixels = (np.sin(x / 30) + np.cos(y / 47) + 2) * 8000 + rng.integers(0, 3000, shape)
    pixels = pixels.astype("uint16")
    pixels[shape[0] // 3, shape[1] // 3] = MARK
    stored = zarr.create_array(
        str(folder / "in.zarr"),
        shape=shape,
        chunks=chunks,
        dtype="uint16",
        dimension_names=["y", "x"],
        **options,
    )
    stored[:] = pixels
    return pixels


class Rig:
    """A folder with an input, a job, and what the job's function does."""

    def __init__(self, folder, shape=(256, 4096), chunks=(256, 256), job=JOB):
        self.folder, self.out = Path(folder), Path(folder) / "out.zarr"
        self.folder.mkdir(exist_ok=True)
        if not (self.folder / "in.zarr").exists():
            make_input(self.folder, shape, chunks)
            (self.folder / "faulty.py").write_text(_FUNCTION)
            (self.folder / "job.yaml").write_text(textwrap.dedent(job).lstrip())

    def copy(self, folder):
        """Return a rig like this one in another folder, with whatever is stored."""
        shutil.copytree(self.folder, folder)
        return Rig(folder)

    def fault(self, **what):
        """Say what the job's function does from now on: nothing, by default."""
        for file in self.folder.glob("happened-*"):
            file.unlink()
        temporary = self.folder / "fault.partial"
        temporary.write_text(json.dumps(what))
        temporary.replace(self.folder / "fault.json")

    def command(self, *options):
        """Return the command line of ``chunkfilt run`` for the job."""
        return [sys.executable, "-m", "chunkfilt", "run", "job.yaml", "--allow-code", *options]

    def start(self, *options, **more):
        """Begin the job; its process leads a group of its own."""
        return self.popen(self.command(*options), **more)

    def popen(self, command, **more):
        """Begin a command in this folder, its words into a file: nobody reads a pipe here."""
        with (self.folder / "stderr").open("wb") as words:
            more = {"stdout": subprocess.DEVNULL, "stderr": words, **more}
            return subprocess.Popen(command, cwd=self.folder, start_new_session=True, **more)

    def run(self, *options, expect=0, **more):
        """Carry the job out, and return what it says; `expect` is its exit code."""
        return self.call(self.command(*options), expect=expect, **more)

    def chunkfilt(self, *words, expect=0):
        """Carry out another command of chunkfilt's, and return what it says."""
        return self.call([sys.executable, "-m", "chunkfilt", *words], expect=expect)

    def script(self, text, *words, expect=0):
        """Carry out a script, and return what it says."""
        return self.call([sys.executable, "-c", textwrap.dedent(text), *words], expect=expect)

    def call(self, command, *, expect=0, **more):
        """Carry out a command, and return what it says."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=120,
            stdin=subprocess.DEVNULL,
            check=False,
            **more,
        )
        assert done.returncode == expect, (done.returncode, done.stdout, done.stderr)
        # Dask's log tells of its lost connections in its own way.
        assert "Traceback" not in done.stderr or " - distributed." in done.stderr, done.stderr
        return done.stdout + done.stderr

    @property
    def words(self):
        """What the command that was begun last has said."""
        return (self.folder / "stderr").read_text()

    def record(self):
        """Return ``run.json``."""
        return json.loads((self.folder / "out.zarr.run" / "run.json").read_bytes())

    def recorded(self, number=3):
        """Return how many blocks of a pass are recorded."""
        try:
            text = (self.folder / "out.zarr.run" / f"ledger-{number}.jsonl").read_text()
        except FileNotFoundError:
            return 0
        return max(text.count("\n") - 1, 0)

    def clear(self):
        """Remove what was stored."""
        for each in (self.out, self.folder / "out.zarr.run"):
            shutil.rmtree(each, ignore_errors=True)


class Cluster:
    """A dask cluster of processes of its own, as its command line starts them."""

    def __init__(self, rig, workers=2):
        self._rig, self.file, self.workers = rig, rig.folder / "scheduler.json", []
        self._environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(rig.folder), ROOT])}
        self.scheduler = self._begin("scheduler", "--host", "127.0.0.1", "--port", "0")
        wait_for(self.file.exists, self.scheduler)
        for _ in range(workers):
            self.add()
        where = f"run.scheduler_file={self.file}"
        self.options = ("--set", "run.scheduler=distributed", "--set", where)

    def add(self):
        """Start a worker; without a nanny, so that it stays dead when it dies."""
        options = ("--no-nanny", "--nthreads", "1", "--death-timeout", "20")
        options = (*options, "--local-directory", str(self._rig.folder / "dask"))
        self.workers.append(self._begin("worker", "--host", "127.0.0.1", *options))

    def _begin(self, kind, *options):
        command = [sys.executable, "-m", "dask", kind, "--scheduler-file", str(self.file)]
        quiet = {"stderr": subprocess.DEVNULL, "env": self._environment}
        return self._rig.popen([*command, "--no-dashboard", *options], **quiet)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        for process in (*self.workers, self.scheduler):
            kill_group(process)
        self.file.unlink(missing_ok=True)


def contents(store):
    """Return the bytes of every file of a store; no file is left over, none is half written."""
    files = (file for file in sorted(Path(store).rglob("*")) if file.is_file())
    return {str(file.relative_to(store)): file.read_bytes() for file in files}


def same(rig, whole):
    """Assert that a rig's output is, file by file, that of a run which nothing happened to.

    Attributes hold no times: those stand in ``run.json`` alone.
    """
    ours, theirs = contents(rig.out), contents(whole.out)
    assert ours.keys() == theirs.keys()
    different = [name for name, held in ours.items() if held != theirs[name]]
    assert not different
    record = json.loads(theirs["zarr.json"])["attributes"]["chunkfilt"]
    assert record["finished"]
    assert rig.record()["checksums"] == record["checksums"]
    left = {part.name for part in (rig.folder / "out.zarr.run").iterdir()}
    assert not left & {"lock", "staging", "intermediate"}
    assert not [name for name in left if name.endswith(".partial")]


def kill_group(process, number=signal.SIGKILL):
    """Send a signal to a process that `Rig.start` began and all in its group; wait for it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)
    return process.wait(60)


def wait_for(what, process=None, seconds=60):
    """Wait until `what()` is true; fail where `process` ends before, or it takes too long."""
    until = time.monotonic() + seconds
    while not (found := what()):
        assert process is None or process.poll() is None, "ended too early"
        assert time.monotonic() < until, "took too long"
        time.sleep(0.01)
    return found
