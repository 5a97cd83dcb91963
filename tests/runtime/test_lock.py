"""One run on an output at a time, with real processes, killed ones among them."""

import contextlib
import errno
import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading

import pytest

from chunkfilt.errors import StorageError
from chunkfilt.runtime import lock
from chunkfilt.runtime.lock import run_lock

# Takes the lock and keeps it until its standard input ends.
HOLDER = """
import sys
from pathlib import Path
from chunkfilt.runtime import lock
lock._flock = lock._flock if sys.argv[2] == "flock" else lambda descriptor: False
with lock.run_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(params=["flock", "existence"])
def kind(request, monkeypatch):
    """With the system's locks, and on a file system without any."""
    if request.param == "existence":

        def refuse(descriptor, operation):
            raise OSError(errno.ENOSYS, "Function not implemented")

        monkeypatch.setattr(lock.fcntl, "flock", refuse)
    return request.param


@contextlib.contextmanager
def holding(folder, kind="flock"):
    """Run a process that holds the lock of a folder."""
    command = [sys.executable, "-c", HOLDER, str(folder), kind]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout.readline() == b"held\n"
            yield process
        finally:
            process.kill()


def refusal(folder):
    with pytest.raises(StorageError) as caught, run_lock(folder):
        pass
    return str(caught.value)


def test_the_second_run_is_told_of_the_first(tmp_path, kind):
    folder = tmp_path / "out.zarr.run"
    with holding(folder, kind) as process:
        told = refusal(folder)
        output = tmp_path / "out.zarr"
        by = f"process {process.pid} on host {socket.gethostname()} since "
        assert told.startswith(f"output {output} is being written by {by}")
        assert "wait for it, or end it" in told
        refusal(folder)
        process.communicate()
        assert process.returncode == 0
    with run_lock(folder):
        pass


def test_a_killed_holder_lets_go_at_once(tmp_path, kind):
    with holding(tmp_path / "out.zarr.run", kind) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        with run_lock(tmp_path / "out.zarr.run"):
            assert str(os.getpid()) in refusal(tmp_path / "out.zarr.run")


def test_twice_in_one_process(tmp_path, kind):
    folder = tmp_path / "out.zarr.run"
    told = []
    with run_lock(folder):
        thread = threading.Thread(target=lambda: told.append(refusal(folder)))
        thread.start()
        thread.join()
        assert f"process {os.getpid()} " in told[0]
        assert f"process {os.getpid()} " in refusal(folder)
    with run_lock(folder), run_lock(tmp_path / "other.zarr.run"):
        pass


def test_another_way_to_write_the_path(tmp_path, monkeypatch, kind):
    (tmp_path / "data").mkdir()
    (tmp_path / "link").symlink_to("data")
    monkeypatch.chdir(tmp_path)
    with run_lock(tmp_path / "data" / "out.zarr.run"):
        (tmp_path / "other.zarr.run").symlink_to("data/out.zarr.run")
        for path in ("link/out.zarr.run", "data/../data/out.zarr.run", "other.zarr.run"):
            assert "is being written" in refusal(lock.Path(path))


def test_nothing_is_left_behind(tmp_path, kind):
    with run_lock(tmp_path / "a" / "b" / "out.zarr.run"):
        pass
    with pytest.raises(ZeroDivisionError), run_lock(tmp_path / "a" / "out.zarr.run"):
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())
    (tmp_path / "kept").mkdir()
    with run_lock(tmp_path / "kept"):
        pass
    with run_lock(tmp_path / "out.zarr.run"):
        (tmp_path / "out.zarr.run" / "run.json").write_text("{}")
    found = sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*"))
    assert found == ["kept", "out.zarr.run", "out.zarr.run/run.json"]


@pytest.mark.parametrize("text", ["", "words", "[]", '{"host": 3}', '{"pid": "x", "host": "h"}'])
def test_a_holder_that_does_not_say_who_it_is(tmp_path, kind, text):
    with run_lock(tmp_path):
        (tmp_path / ("lock" if kind == "flock" else "lock.held")).write_text(text)
        assert "written by another process:" in refusal(tmp_path)


def test_a_lock_file_that_nobody_locks_is_no_lock(tmp_path):
    (tmp_path / "lock").write_bytes(lock._self())
    with run_lock(tmp_path):
        assert "is being written" in refusal(tmp_path)


def test_without_locks_a_holder_elsewhere_is_believed(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "fcntl", None)
    holder = {"host": "elsewhere", "pid": 1, "started": "2020-01-02T03:04:05+00:00"}
    (tmp_path / "lock.held").write_text(json.dumps(holder))
    told = refusal(tmp_path)
    assert "process 1 on host elsewhere since 2020-01-0" in told
    assert told.endswith(f"or remove {tmp_path / 'lock.held'}")


def test_where_no_lock_can_be_made(tmp_path):
    (tmp_path / "note.txt").write_text("words")
    folder = tmp_path / "note.txt" / "out.zarr.run"
    with pytest.raises(StorageError, match=r"cannot write .*note.txt"), run_lock(folder):
        pass


def _wait(pipe):
    pipe.recv()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_worker_does_not_hold_the_lock(tmp_path):
    here, there = multiprocessing.Pipe()
    with run_lock(tmp_path):
        worker = multiprocessing.get_context("fork").Process(target=_wait, args=(there,))
        worker.start()
        assert "is being written" in refusal(tmp_path)
    try:
        with run_lock(tmp_path):
            pass
    finally:
        here.send(None)
        worker.join()


def _count(folder, rounds, queue):
    """Take the lock again and again; add one to a number in a file while it is held."""
    taken = 0
    while taken < rounds:
        try:
            with run_lock(folder):
                file = folder.parent / "number"
                number = int(file.read_text())
                file.write_text(str(number + 1))
            taken += 1
        except StorageError:
            pass
    queue.put(taken)


def test_two_never_hold_it_at_once(tmp_path):
    (tmp_path / "number").write_text("0")
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    jobs = [
        context.Process(target=_count, args=(tmp_path / "out.zarr.run", 100, queue))
        for _ in range(3)
    ]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
        assert job.exitcode == 0
    assert (tmp_path / "number").read_text() == "300"
