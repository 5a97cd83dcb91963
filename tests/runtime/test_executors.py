"""Executors: every block once, a few at a time, whatever the scheduler."""

import contextlib
import socket
import threading
import time

import pytest

from chunkfilt.errors import InputError, RunError
from chunkfilt.runtime.executors import SCHEDULERS, Serial, Threads, available_cores, make_executor

STARTED = []
LOCK = threading.Lock()


def record(index):
    with LOCK:
        STARTED.append(index)
    return index * index


def fail_at_three(index):
    with LOCK:
        STARTED.append(index)
    if index == 3:
        raise RunError("the third block is bad")
    return index


@pytest.fixture(autouse=True)
def _nothing_started():
    STARTED.clear()


@pytest.fixture(scope="module")
def cluster():
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0",
        host="127.0.0.1", protocol="tcp",
    ) as cluster:  # fmt: skip
        yield cluster


@pytest.fixture(params=["serial", "threads", "distributed"])
def executor(request):
    address = None
    if request.param == "distributed":
        address = request.getfixturevalue("cluster").scheduler_address
    made = make_executor(request.param, 2, address, 1 << 30)
    yield made
    made.close()


@pytest.mark.parametrize("count", [0, 1, 3, 40])
def test_every_index_once_with_its_own_result(executor, count):
    found = list(executor.execute(record, count))
    assert sorted(found) == [(i, i * i) for i in range(count)]
    assert sorted(STARTED) == list(range(count))


def test_an_executor_runs_one_pass_after_the_other(executor):
    for count in (5, 7):
        assert len(list(executor.execute(record, count))) == count


def test_only_a_few_tasks_exist_at_a_time(executor):
    ahead = 2 * executor.workers
    running = executor.execute(record, 200)
    for taken in range(1, 20):
        next(running)
        # Where more were submitted, they would start now, while nobody asks for a result.
        until = time.monotonic() + 0.02
        while time.monotonic() < until and len(STARTED) <= taken + ahead:
            time.sleep(0.002)
        assert len(STARTED) <= taken + ahead
    assert len(list(running)) == 181


def test_a_failure_comes_out_and_no_further_block_starts(executor):
    with pytest.raises(RunError, match="the third block is bad"):
        list(executor.execute(fail_at_three, 500))
    assert len(STARTED) <= 60  # of 500; the cluster runs what it has and retries the failing one


def test_leaving_early_stops_the_rest(executor):
    running = executor.execute(record, 500)
    next(running)
    running.close()
    assert len(STARTED) <= 1 + 4 * executor.workers


def test_serial_keeps_the_order():
    assert [i for i, _ in Serial().execute(record, 9)] == list(range(9))
    assert list(range(9)) == STARTED


def test_threads_work_side_by_side():
    gate = threading.Barrier(3, timeout=30)
    pool = Threads(3)
    try:
        assert len(list(pool.execute(lambda i: gate.wait() is not None, 6))) == 6
    finally:
        pool.close()


def test_a_slow_block_holds_up_nobody():
    release = threading.Event()

    def task(index):
        if index == 0:
            assert release.wait(30)
        return index

    pool = Threads(2)
    try:
        order = []
        for index, _ in pool.execute(task, 4):
            order.append(index)
            if len(order) == 3:
                release.set()
        assert order[-1] == 0
        assert sorted(order) == [0, 1, 2, 3]
    finally:
        release.set()
        pool.close()


def test_workers_are_those_of_the_cluster(cluster):
    made = make_executor("distributed", 7, cluster.scheduler_address, 1 << 30)
    try:
        assert made.workers == 2
    finally:
        made.close()
    assert cluster.scheduler.workers  # it was not ours to stop


def test_unknown_names():
    assert SCHEDULERS == ("serial", "threads", "distributed")
    with pytest.raises(InputError, match="one of serial, threads, distributed, got 'dask'"):
        make_executor("dask", 1, None, 1)


@pytest.mark.parametrize(
    "address", ["", "nonsense://1", "tcp://127.0.0.1:notaport", "tcp://127.0.0.1:1"]
)
def test_addresses_where_nobody_answers(address):
    pytest.importorskip("distributed")
    with pytest.raises(InputError, match="no dask scheduler answers"):
        make_executor("distributed", 1, address, 1 << 30)


def test_a_local_cluster_takes_no_port_of_others():
    pytest.importorskip("distributed")
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # where it is taken already, that will do as well
            stack.enter_context(socket.create_server(("", 8787)))
        made = make_executor("distributed", 1, None, 1 << 30)
        try:
            assert made.client.cluster.scheduler.http_server.port != 8787
            assert sorted(made.execute(abs, 2)) == [(0, 0), (1, 1)]
        finally:
            made.close()


def test_there_is_a_core():
    assert available_cores() >= 1
