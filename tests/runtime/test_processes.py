"""Worker processes: they may end in any way, and the run goes on."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from chunkfilt.errors import RunError, StoppedError
from chunkfilt.runtime import processes
from chunkfilt.runtime.executors import Failed, make_executor
from tests.endings import crashed, exited, killed


@pytest.fixture
def workers():
    made = make_executor("processes", 2, memory=1 << 30)
    yield made
    made.close()


def once(folder, ending, index):
    """Return a task that ends its process the first time it computes a block."""

    def task(given):
        mark = folder / "was here"
        if given == index and not mark.exists():
            mark.touch()
            ending()
        return given, os.getpid()

    return task


ENDINGS = [killed, crashed, exited]


def until(condition, seconds=20.0):
    """Wait until something holds; return whether it does."""
    end = time.monotonic() + seconds
    while not (held := condition()) and time.monotonic() < end:
        time.sleep(0.01)
    return held


def gone(pid):
    """Return whether a process has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_block_whose_worker_ends_is_computed_again(workers, tmp_path, ending):
    found = dict(workers.execute(once(tmp_path, ending, 3), iter(range(8))))
    assert {i: value for i, (value, _) in found.items()} == {i: i for i in range(8)}
    assert (tmp_path / "was here").exists()


@pytest.mark.parametrize(
    ("ending", "told"),
    list(zip(ENDINGS, ["-9, SIGKILL", "-11, SIGSEGV", "exit code 3"], strict=True)),
)
def test_a_block_that_always_ends_its_worker_fails_alone(workers, tmp_path, ending, told):
    def task(index):
        if index == 3:
            with (tmp_path / "tries").open("a") as tries:
                tries.write("x")
            ending()
        return index

    found = dict(workers.execute(task, iter(range(8))))
    failed = found.pop(3)
    assert found == {i: i for i in range(8) if i != 3}
    assert isinstance(failed, Failed)
    assert isinstance(failed.error, RunError)
    assert "a worker process ended" in str(failed.error)
    assert told in str(failed.error)
    assert (tmp_path / "tries").read_text() == "x" * (1 + processes.ATTEMPTS)
    assert dict(workers.execute(abs, iter([5]))) == {5: 5}


def test_two_blocks_that_end_their_workers(workers):
    def task(index):
        if index in (0, 1):
            killed()
        return index

    found = dict(workers.execute(task, iter(range(6))))
    assert {i for i, result in found.items() if isinstance(result, Failed)} == {0, 1}
    assert len(found) == 6


def test_a_suspect_runs_with_no_other_beside_it(workers, tmp_path):
    ended = once(tmp_path, killed, 2)

    def task(index):
        alone = (tmp_path / "was here").exists() and index == 2
        (tmp_path / f"runs {index}").touch()
        try:
            time.sleep(0.05)
            ended(index)
            return len(list(tmp_path.glob("runs *"))) if alone else None
        finally:
            (tmp_path / f"runs {index}").unlink()

    found = dict(workers.execute(task, iter(range(8))))
    assert found[2] == 1


def test_workers_stay_from_one_execution_to_the_next(workers):
    first = {pid for _, pid in workers.execute(lambda i: os.getpid(), iter(range(20)))}
    second = {pid for _, pid in workers.execute(lambda i: os.getpid(), iter(range(20)))}
    assert second <= first
    assert len(first) <= 2
    assert os.getpid() not in first
    workers.close()
    assert all(gone(pid) for pid in first)


def test_one_that_ended_while_it_had_nothing_to_do(workers):
    (pid,) = {pid for _, pid in workers.execute(lambda i: os.getpid(), iter([0]))}
    os.kill(pid, signal.SIGKILL)
    assert until(lambda: gone(pid))
    assert dict(workers.execute(abs, iter(range(4)))) == {i: i for i in range(4)}


def test_workers_do_not_see_an_interruption(workers):
    def task(index):
        os.kill(os.getpid(), signal.SIGINT)
        return os.getpgid(0)

    found = dict(workers.execute(task, iter(range(4))))
    assert os.getpgid(0) not in found.values()
    assert not any(isinstance(result, Failed) for result in found.values())


def test_libraries_have_one_thread(workers):
    def task(index):
        import numba

        return numba.config.NUMBA_NUM_THREADS, os.environ["OMP_NUM_THREADS"]

    assert dict(workers.execute(task, iter([0]))) == {0: (1, "1")}


def test_leaving_early_ends_what_runs(workers, tmp_path):
    def task(index):
        (tmp_path / str(os.getpid())).touch()
        if index:
            time.sleep(600)

    running = workers.execute(task, iter(range(5)))
    assert next(running) == (0, None)
    assert until(lambda: len(list(tmp_path.iterdir())) == 2)
    began = time.monotonic()
    running.close()
    assert time.monotonic() - began < 60
    assert all(gone(int(one.name)) for one in tmp_path.iterdir())


def test_what_cannot_be_read_or_sent_is_a_failure(workers):
    class Unreadable:
        def __reduce__(self):
            return int, ("no number",)

        def __call__(self, index):
            return index

    ((_, failed),) = workers.execute(Unreadable(), iter([0]))
    assert isinstance(failed.error, ValueError)
    ((_, failed),) = workers.execute(lambda i: sys._getframe(), iter([0]))
    assert isinstance(failed, Failed)


def test_large_tasks_and_results(workers):
    held = bytes(3 << 20)
    found = dict(workers.execute(lambda i: held + bytes(i), iter(range(4))))
    assert [len(found[i]) for i in range(4)] == [len(held) + i for i in range(4)]


def test_workers_that_cannot_start(monkeypatch):
    monkeypatch.setattr(processes, "_START", "import sys; sys.exit(7)")
    made = make_executor("processes", 2, memory=0)
    with pytest.raises(StoppedError, match=r"as soon as they are started \(exit code 7"):
        list(made.execute(abs, iter(range(9))))
    made.close()


SCRIPT = """
    import os, sys, time
    from chunkfilt.runtime.executors import make_executor

    class Own:  # a class of the script travels as well, and the script is not run anew
        def __init__(self, value):
            self.value = value

    print("script", flush=True)
    hang = sys.argv[1] == "hang"

    def task(index):
        if hang and index:
            os.write(1, f"worker {os.getpid()}\\n".encode())  # in one piece
            time.sleep(600)
        return Own(index + 1)

    made = make_executor("processes", 2, memory=0)
    for index, found in made.execute(task, iter(range(3))):
        os.write(1, f"{index} {found.value} {isinstance(found, Own)}\\n".encode())
"""


def test_a_script_needs_no_guard(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT))
    done = subprocess.run(
        [sys.executable, script, "run"], capture_output=True, text=True, timeout=60, check=True
    )
    said = done.stdout.splitlines()
    assert said[0] == "script"
    assert sorted(said[1:]) == ["0 1 True", "1 2 True", "2 3 True"]
    assert done.stderr == ""


def test_workers_end_with_the_process_that_started_them(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT))
    with subprocess.Popen(
        [sys.executable, script, "hang"], stdout=subprocess.PIPE, text=True
    ) as run:
        pids = []
        while len(pids) < 2:
            line = run.stdout.readline()
            assert line
            pids += [int(line.split()[1])] if line.startswith("worker") else []
        run.kill()
        run.wait()
    assert until(lambda: all(gone(pid) for pid in pids))
