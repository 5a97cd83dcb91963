"""Dask clusters that lose workers, and schedulers; all on this machine, as processes of its own."""

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from chunkfilt.errors import InputError, RunError, StoppedError
from chunkfilt.runtime import cluster, reach
from chunkfilt.runtime.cluster import Distributed
from chunkfilt.runtime.executors import Failed, make_executor
from tests.endings import crashed, exited, killed

pytest.importorskip("distributed")


class Machines:
    """A scheduler and workers, started by dask's command line."""

    def __init__(self, folder):
        self.folder, self.file, self.workers = folder, folder / "scheduler.json", []
        self.environment = {**os.environ, "DASK_DISTRIBUTED__LOGGING__DISTRIBUTED": "critical"}
        self.scheduler = self.start("scheduler", "--port", "0")
        assert until(self.file.exists)

    def start(self, what, *options):
        command = [sys.executable, "-m", f"distributed.cli.dask_{what}", "--host", "127.0.0.1"]
        command += ["--no-dashboard", "--scheduler-file", self.file, *options]
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.environment,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def add(self, threads=1, *options):
        options = ["--nthreads", str(threads), "--local-directory", self.folder, *options]
        self.workers.append(self.start("worker", *options))

    def end(self):
        for one in [*self.workers, self.scheduler]:
            # A nanny's worker is in its session.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(one.pid, signal.SIGKILL)
            one.wait()


@pytest.fixture
def machines(tmp_path):
    made = Machines(tmp_path)
    yield made
    made.end()


@pytest.fixture(scope="module")
def local():
    """A local cluster of the executor's own: workers with nannies."""
    made = make_executor("distributed", 2, memory=1 << 30)
    yield made
    made.close()


def until(condition, seconds=30.0):
    """Wait until something holds; return whether it does."""
    end = time.monotonic() + seconds
    while not (held := condition()) and time.monotonic() < end:
        time.sleep(0.02)
    return held


def where(index):
    time.sleep(0.02)
    return os.getpid()


def once(mark, ending):
    def task(index):
        if index == 3 and not mark.exists():
            mark.touch()
            ending()
        return index

    return task


@pytest.mark.parametrize("ending", [killed, crashed, exited])
def test_a_block_whose_worker_ends_is_computed_again(local, tmp_path, ending):
    found = dict(local.execute(once(tmp_path / "was here", ending), iter(range(10))))
    assert found == {i: i for i in range(10)}
    assert (tmp_path / "was here").exists()


def test_a_block_that_always_ends_its_worker_fails_alone(local):
    def task(index):
        if index == 3:
            exited()
        return index

    found = dict(local.execute(task, iter(range(6))))
    failed = found.pop(3)
    assert isinstance(failed, Failed)
    assert isinstance(failed.error, RunError)
    assert "a worker process ended whenever it computed this block" in str(failed.error)
    assert found == {i: i for i in range(6) if i != 3}


def test_nothing_is_left_with_the_client(local):
    def held():
        return len(local.client.futures) + len(local.client.refcount)

    for _ in range(3):
        assert len(list(local.execute(abs, iter(range(50))))) == 50
        assert until(lambda: held() == 0)
    running = local.execute(abs, iter(range(50)))
    next(running)
    running.close()
    assert until(lambda: held() == 0)
    tasks = local.client.cluster.scheduler.tasks
    assert until(lambda: not tasks)


def test_blocks_are_handed_out_many_at_a_time(local, monkeypatch):
    """The scheduler keeps something of every message, for as long as it runs."""
    sent, real = [], local.client.map

    def map_(function, indices, **options):
        sent.append(len(indices))
        return real(function, indices, **options)

    monkeypatch.setattr(local.client, "map", map_)
    assert len(list(local.execute(abs, iter(range(500))))) == 500
    assert sum(sent) == 500
    assert min(sent[:-1]) >= 32


def test_large_tasks_and_results(local):
    held = os.urandom(12 << 20)  # dask warns of such graphs
    found = dict(local.execute(lambda i: (len(held), bytes(i << 20)), iter(range(4))))
    assert found == {i: (12 << 20, bytes(i << 20)) for i in range(4)}


def test_results_that_come_slowly_are_fetched_one_by_one(local, monkeypatch):
    real, asked = local.ask, []

    def ask(question, timeout):
        if getattr(question, "func", None) == local.client.gather:
            futures = question.args[0]
            asked.append(len(futures))
            if len(futures) > 1:
                raise TimeoutError
        return real(question, timeout)

    monkeypatch.setattr(local, "ask", ask)
    monkeypatch.setattr(local, "workers", 20)
    found = dict(local.execute(abs, iter(range(40))))
    assert found == {i: i for i in range(40)}
    assert asked[-1] == 1


def test_leaving_early_tells_running_blocks_to_stop(local, tmp_path):
    from chunkfilt.runtime.stopping import stop_requested

    def strips(index):
        try:
            (tmp_path / "first").mkdir()
        except FileExistsError:
            (tmp_path / f"began {index}").touch()
            while not stop_requested():
                time.sleep(0.01)
            (tmp_path / f"stopped {index}").touch()

    running = local.execute(strips, iter(range(9)))
    next(running)
    assert until(lambda: any(tmp_path.glob("began *")))
    running.close()
    began = len(list(tmp_path.glob("began *")))
    assert len(list(tmp_path.glob("stopped *"))) == began


def test_servers_of_a_local_cluster_listen_on_this_machine_only(local):
    address = local.client.cluster.scheduler_address
    assert address.startswith("tcp://127.0.0.1:")
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/status", local.dashboard)
    pids = {os.getpid(), *local.client.run(os.getpid).values()}
    listening = {}
    for pid in pids:
        for file in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                listening[os.readlink(file)] = pid
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    lines += [line.split() for line in Path("/proc/net/tcp6").read_text().splitlines()[1:]]
    here = [line[1] for line in lines if line[3] == "0A" and f"socket:[{line[9]}]" in listening]
    assert len(here) >= 4
    assert {place.partition(":")[0] for place in here} == {"0100007F"}


def test_a_local_cluster_takes_no_port_of_others():
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # where it is taken already, that will do as well
            stack.enter_context(socket.create_server(("", 8787)))
        made = make_executor("distributed", 1, memory=1 << 30)
        try:
            assert made.client.cluster.scheduler.http_server.port != 8787
            assert sorted(made.execute(abs, iter(range(2)))) == [(0, 0), (1, 1)]
        finally:
            made.close()


@pytest.mark.parametrize(
    "address", ["", "nonsense://1", "tcp://127.0.0.1:notaport", "tcp://127.0.0.1:1"]
)
def test_addresses_where_nobody_answers(address):
    with pytest.raises(InputError, match="no dask scheduler answers"):
        make_executor("distributed", 1, address=address, memory=1 << 30)


def test_an_address_where_somebody_is_silent(monkeypatch):
    monkeypatch.setattr(reach, "CONNECT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(InputError, match="no dask scheduler answers"):
            make_executor("distributed", 1, address=address, memory=1 << 30)


@pytest.mark.parametrize("text", [None, "no JSON", "[]", "{}"])
def test_files_that_tell_no_scheduler(tmp_path, text):
    file = tmp_path / "scheduler.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(InputError, match=r"scheduler.json' tells no address"):
        make_executor("distributed", 1, scheduler_file=file, memory=1 << 30)


@pytest.mark.faults  # dask's own time to reconnect
def test_a_scheduler_named_by_its_file_and_one_that_is_gone(machines, monkeypatch):
    machines.add(2)
    made = make_executor("distributed", 1, scheduler_file=str(machines.file), memory=0)
    try:
        assert made.address == json.loads(machines.file.read_text())["address"]
        assert (made.workers, made.tasks_per_process) == (2, 2)
        running = made.execute(where, iter(range(100000)))
        assert not isinstance(next(running)[1], Failed)
        machines.scheduler.kill()
        with pytest.raises(
            StoppedError, match=r"the dask scheduler at tcp://.* is gone; .*resumed"
        ):
            list(running)
    finally:
        made.close()


def test_a_scheduler_that_answers_no_more(machines, monkeypatch):
    monkeypatch.setattr(cluster, "_SILENCE", 1.0)
    machines.add()
    made = make_executor("distributed", 1, scheduler_file=machines.file, memory=0)
    running = made.execute(where, iter(range(100000)))
    next(running)
    machines.scheduler.send_signal(signal.SIGSTOP)
    try:
        with pytest.raises(StoppedError, match="is gone"):
            list(running)
        made.close()
    finally:
        machines.scheduler.send_signal(signal.SIGCONT)


def test_workers_come_and_go(machines, monkeypatch):
    monkeypatch.setattr(cluster, "_LOOK_EVERY", 0.1)
    machines.add(1, "--no-nanny")
    made = Distributed(1, 0, scheduler_file=machines.file)
    pids, windows = [], set()
    try:
        for index, pid in made.execute(where, iter(range(2000))):
            assert not isinstance(pid, Failed)
            if pid not in pids:
                pids.append(pid)
            windows.add(made.workers)
            if index == 5:
                machines.add(2, "--no-nanny")
            if made.workers == 3 and len(pids) == 2 and machines.workers[0].poll() is None:
                machines.workers[0].kill()
                machines.workers[0].wait()
            if 3 in windows and made.workers == 2:
                break
    finally:
        made.close()
    assert pids == [one.pid for one in machines.workers]
    assert windows == {1, 2, 3}


def test_no_workers_at_all(machines):
    began = time.monotonic()
    with pytest.raises(InputError, match=r"has no workers, after 0\.3 s: start some"):
        Distributed(1, 0, scheduler_file=machines.file, patience=0.3)
    assert time.monotonic() - began < 30


def test_no_workers_any_more(machines, monkeypatch):
    monkeypatch.setattr(cluster, "_LOOK_EVERY", 0.1)
    machines.add(1, "--no-nanny")
    made = Distributed(1, 0, scheduler_file=machines.file)
    made.patience = 0.5
    running = made.execute(where, iter(range(1000)))
    next(running)
    machines.workers[0].kill()
    with pytest.raises(StoppedError, match=r"has had no workers for 0.5 s: start some; .*resumed"):
        list(running)
    made.close()


def test_a_connection_that_breaks_is_made_again(local, monkeypatch):
    done = []
    for index, result in local.execute(where, iter(range(30))):
        assert not isinstance(result, Failed)
        done.append(index)
        if len(done) == 5:
            local.client.loop.add_callback(local.client.scheduler_comm.comm.abort)
    assert sorted(done) == list(range(30))


def test_workers_are_checked(local, tmp_path, mosaic):
    (tmp_path / f".chunkfilt-{'0a' * 16}").touch()  # a killed client's
    local.check([mosaic], tmp_path)
    assert [one for one in tmp_path.iterdir() if one.name.startswith(".chunkfilt")] == []
    with pytest.raises(
        InputError, match=r"worker tcp://127.* on .* does not find the input .*none"
    ):
        local.check([mosaic, tmp_path / "none"], tmp_path)
    with pytest.raises(InputError, match="cannot write in"):
        local.check([mosaic], tmp_path / "none")


def test_workers_that_do_not_answer(local, tmp_path, monkeypatch):
    async def never(packages):
        await asyncio.sleep(600)

    monkeypatch.setattr(reach, "_TIMEOUT", 0.05)
    monkeypatch.setattr(local.client, "get_versions", never)
    with pytest.raises(InputError, match="do not answer"):
        local.check([], tmp_path)


def test_other_versions_are_named(local, tmp_path, monkeypatch):
    real = local.client.get_versions

    async def told(packages):
        found = await real(packages=packages)
        for worker in found["workers"].values():
            worker["packages"] |= {"numba": "0.1", "python": "3.9.1.final.0", "zarrs": None}
        return found

    monkeypatch.setattr(local.client, "get_versions", told)
    with pytest.raises(InputError) as caught:
        local.check([], tmp_path)
    said = str(caught.value)
    assert re.search(r"worker tcp://127\S+ on \S+ \(and 1 other workers\) cannot take part", said)
    for word in ("Python 3.9 instead of 3.", "numba 0.1 instead of", "zarrs is missing instead of"):
        assert word in said
    assert "install the same versions" in said


def test_what_a_worker_finds(tmp_path, mosaic, monkeypatch):
    mark = tmp_path / ".mark"
    assert "does not see" in reach.probe([], str(mark))
    mark.write_bytes(b"another")
    assert "does not see" in reach.probe([], str(mark))
    mark.write_bytes(b".mark")
    assert reach.probe([str(mosaic)], str(mark)) is None
    real = Path.write_bytes

    def refuse(self, data):
        if self.parent == tmp_path:
            raise PermissionError(13, "Permission denied")
        return real(self, data)

    monkeypatch.setattr(Path, "write_bytes", refuse)
    assert reach.probe([], str(mark)) == f"it cannot write in {tmp_path}: Permission denied"
    monkeypatch.setattr(os, "listdir", lambda path: os.open(tmp_path / "x" / "y", os.O_RDONLY))
    assert "cannot read the input" in reach.probe([str(mosaic)], str(mark))
