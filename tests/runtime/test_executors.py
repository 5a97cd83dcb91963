"""Executors: every block once, a few at a time, whatever the scheduler."""

import pickle
import threading
import time
from collections import deque

import pytest

from chunkfilt.config_parts import RunPart
from chunkfilt.errors import InputError, RunError, StorageError
from chunkfilt.filters.params import paths_from
from chunkfilt.runtime import executors
from chunkfilt.runtime.cluster import Distributed
from chunkfilt.runtime.executors import (
    SCHEDULERS,
    Failed,
    Serial,
    Threads,
    available_cores,
    make_executor,
)
from chunkfilt.runtime.options import RunOptions
from chunkfilt.runtime.stopping import stop_requested


class Indices:
    """Indices that are handed out, and that may be put back."""

    def __init__(self, indices):
        self.left, self.given = deque(indices), []

    def __iter__(self):
        return self

    def __next__(self):
        if not self.left:
            raise StopIteration
        self.given.append(self.left.popleft())
        return self.given[-1]


def square(index):
    return index * index


def fail_at_three(index):
    if index == 3:
        raise RunError("the third block is bad") from OSError(28, "no space")
    return index


def patiently(index):
    time.sleep(0.002)
    return index


class PickyError(Exception):
    """An exception that pickle cannot make again."""

    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


def fail_oddly(index):
    raise PickyError(index, "more")


@pytest.fixture(scope="module")
def cluster():
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0",
        host="127.0.0.1", protocol="tcp",
    ) as cluster:  # fmt: skip
        yield cluster


@pytest.fixture(scope="module")
def processes():
    made = make_executor("processes", 2, memory=1 << 30)
    yield made
    made.close()


@pytest.fixture(params=SCHEDULERS)
def executor(request):
    if request.param == "processes":
        yield request.getfixturevalue("processes")
        return
    address = None
    if request.param == "distributed":
        address = request.getfixturevalue("cluster").scheduler_address
    made = make_executor(request.param, 2, memory=1 << 30, address=address)
    yield made
    made.close()


def ahead_of(executor):
    """Return how many tasks an executor has under way; a cluster is handed them by the tens."""
    return 2 * executor.workers + (32 if isinstance(executor, Distributed) else 0)


@pytest.mark.parametrize("count", [0, 1, 3, 40])
def test_every_index_once_with_its_own_result(executor, count):
    indices = Indices(range(count))
    found = list(executor.execute(square, indices))
    assert sorted(found) == [(i, i * i) for i in range(count)]
    assert indices.given == list(range(count))


def test_an_executor_runs_one_pass_after_the_other(executor):
    factor = 3
    for count in (5, 7):
        found = executor.execute(lambda i: factor * i, iter(range(count)))
        assert sorted(found) == [(i, 3 * i) for i in range(count)]


def test_only_a_few_tasks_exist_at_a_time(executor):
    indices = Indices(range(200))
    ahead = ahead_of(executor)
    running = executor.execute(patiently, indices)
    for taken in range(1, 20):
        next(running)
        # Results that have come at the same time wait to be taken.
        assert len(indices.given) <= taken + 2 * ahead
    assert len(list(running)) == 181


def test_a_failure_takes_the_place_of_a_result(executor):
    found = dict(executor.execute(fail_at_three, iter(range(10))))
    assert sorted(found) == list(range(10))
    failed = found.pop(3)
    assert isinstance(failed, Failed)
    assert isinstance(failed.error, RunError)
    assert str(failed.error) == "the third block is bad"
    assert failed.error.__cause__.errno == 28
    assert found == {i: i for i in range(10) if i != 3}


def test_a_block_may_be_put_back_after_the_last(executor):
    indices = Indices([7])
    for tries, (index, result) in enumerate(executor.execute(fail_at_three, indices), 1):
        assert index in (7, 3)
        if tries < 5:
            indices.left.append(3)
        assert isinstance(result, Failed) == (index == 3)
    assert indices.given == [7, 3, 3, 3, 3]


def test_an_exception_that_does_not_travel_is_told(executor):
    ((_, failed),) = executor.execute(fail_oddly, iter([4]))
    assert isinstance(failed.error, PickyError | RunError)
    assert "4 and more" in str(failed.error)


def test_leaving_early_stops_the_rest(executor):
    indices = Indices(range(500))
    running = executor.execute(square, indices)
    next(running)
    running.close()
    given = len(indices.given)
    assert given <= 1 + 4 * ahead_of(executor)
    assert sorted(executor.execute(square, iter([1, 2]))) == [(1, 1), (2, 4)]
    assert len(indices.given) == given


def test_local_executors_have_nothing_to_check(tmp_path):
    for name in ("serial", "threads", "processes"):
        made = make_executor(name, 1, memory=0)
        assert made.check([tmp_path / "none"], tmp_path / "nor this") is None
        assert made.dashboard is None
        made.close()


def test_serial_keeps_the_order_and_can_be_interrupted():
    assert [i for i, _ in Serial().execute(square, iter(range(9)))] == list(range(9))

    def interrupted(index):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(Serial().execute(interrupted, iter([1])))


def test_threads_work_side_by_side():
    gate = threading.Barrier(3, timeout=30)
    found = Threads(3).execute(lambda i: gate.wait() is not None, iter(range(6)))
    assert [result for _, result in found] == [True] * 6


def test_a_thread_outlives_whatever_a_block_raises():
    def leave(index):
        raise SystemExit(3)

    found = list(Threads(2).execute(leave, iter(range(5))))
    assert [type(failed.error) for _, failed in found] == [SystemExit] * 5


def test_a_slow_block_holds_up_nobody():
    release = threading.Event()

    def task(index):
        if index == 0:
            assert release.wait(30)
        return index

    order = []
    for index, _ in Threads(2).execute(task, iter(range(4))):
        order.append(index)
        if len(order) == 3:
            release.set()
    assert order[-1] == 0
    assert sorted(order) == [0, 1, 2, 3]


def test_a_running_block_is_told_to_stop():
    began, stopped = threading.Event(), []

    def strips(index):
        if index == 0:
            return
        began.set()
        while not stop_requested():
            time.sleep(0.001)
        stopped.append(index)

    running = Threads(1).execute(strips, iter(range(3)))
    next(running)
    assert began.wait(30)
    running.close()
    assert stopped == [1]
    assert not stop_requested()


def test_a_block_that_hangs_is_left_behind(monkeypatch):
    monkeypatch.setattr(executors, "PATIENCE", 0.05)
    began, release = threading.Event(), threading.Event()

    def hang(index):
        if index == 0:
            return
        began.set()
        release.wait(60)

    pool = Threads(1)
    running = pool.execute(hang, iter(range(9)))
    next(running)
    assert began.wait(30)
    running.close()
    pool.close()
    assert not release.is_set()
    assert all(one.daemon for one in threading.enumerate() if one.name == "chunkfilt")
    release.set()


def test_the_stop_of_one_execution_is_not_that_of_another():
    first = Threads(1).execute(lambda i: time.sleep(0.01), iter(range(9)))
    next(first)
    first.close()
    assert list(Threads(1).execute(lambda i: stop_requested(), iter([0]))) == [(0, False)]


def test_a_failure_does_not_hold_on_to_the_block():
    held = []

    class Pixels:
        def __del__(self):
            held.append("gone")

    def fail(index):
        pixels = Pixels()
        raise ValueError(str(type(pixels)))

    ((_, failed),) = Threads(1).execute(fail, iter([0]))
    assert failed.error.__traceback__ is not None
    assert held == ["gone"]


def test_what_failed_travels_with_its_causes():
    error = StorageError("cannot write")
    error.__cause__ = OSError(28, "no space")
    error.__cause__.__cause__ = PickyError(1, 2)
    back = pickle.loads(pickle.dumps(Failed(error))).error
    assert isinstance(back, StorageError)
    assert back.__cause__.errno == 28
    assert isinstance(back.__cause__.__cause__, RunError)
    assert str(back.__cause__.__cause__).endswith("PickyError: 1 and 2")


def test_workers_are_those_of_the_cluster(cluster):
    made = make_executor("distributed", 7, memory=1 << 30, address=cluster.scheduler_address)
    try:
        assert (made.workers, made.tasks_per_process) == (2, 1)
    finally:
        made.close()
    assert cluster.scheduler.workers  # it was not ours to stop


def test_unknown_names():
    assert SCHEDULERS == ("serial", "threads", "processes", "distributed")
    with pytest.raises(InputError, match=r"one of serial, .*, distributed, got 'dask'"):
        make_executor("dask", 1, memory=1)


def test_there_is_a_core():
    assert available_cores() >= 1


def test_where_the_scheduler_is():
    assert RunOptions("distributed", scheduler_file="s.json").tasks_per_process == 1
    assert RunOptions("processes", workers=5).tasks == 5
    with pytest.raises(InputError, match="scheduler_file goes with scheduler: distributed"):
        RunOptions("processes", scheduler_file="s.json")
    with pytest.raises(InputError, match="address and scheduler_file both say"):
        RunOptions("distributed", "tcp://127.0.0.1:1", scheduler_file="s.json")


def test_the_file_of_the_scheduler_lies_beside_the_job(tmp_path):
    with paths_from(tmp_path / "jobs"):
        part = RunPart(scheduler="distributed", scheduler_file="../s.json")
        absolute = RunPart(scheduler="distributed", scheduler_file="/there/s.json")
    assert part.scheduler_file == str(tmp_path / "s.json")
    assert absolute.scheduler_file == "/there/s.json"
    assert RunPart(scheduler="processes").scheduler_file is None
