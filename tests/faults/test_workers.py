"""Workers that die, blocks that fail, schedulers that go."""

import json
import os
import signal
import time

import pytest

from tests.faults.rig import Cluster, contents, kill_group, same, wait_for

TWO = ("--scheduler", "processes", "--workers", "2")
LOCAL = ("--scheduler", "distributed", "--workers", "2")
slow = pytest.mark.faults


@pytest.mark.parametrize("do", [pytest.param("exit", marks=slow), "segv", "kill"])
@pytest.mark.parametrize("options", [TWO, pytest.param(LOCAL, marks=slow)], ids=lambda o: o[1])
def test_a_worker_that_dies_once(rig, whole, do, options):
    rig.fault(do=do, times=1)
    rig.run(*options)
    assert (rig.folder / "happened-0").exists()
    same(rig, whole)


@slow
@pytest.mark.parametrize("do", ["exit", "kill"])
def test_a_block_that_always_kills_its_worker(rig, whole, do):
    rig.fault(do=do)
    said = rig.run(*TWO, expect=3)
    assert "a worker process ended" in said
    assert "block 2 (0:256, 1024:1536)" in said
    assert rig.recorded(1) >= 1
    rig.fault()
    rig.run("--resume")
    same(rig, whole)


@slow
def test_workers_that_are_killed_all_the_time(rig, whole):
    """Whoever kills them, and whenever: the run goes on with others."""
    rig.fault(pause=0.01)
    process, killed = rig.start(*TWO), 0
    while process.poll() is None and killed < 10:
        time.sleep(0.35)
        for child in children(process.pid)[:1]:
            os.kill(child, signal.SIGKILL)
            killed += 1
    rig.fault()
    assert process.wait(120) == 0, rig.words
    assert killed >= 5
    same(rig, whole)


def children(pid):
    """Return the processes that a process has begun."""
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return [int(word) for word in file.read().split()]


@pytest.mark.parametrize(
    "options",
    [
        ("--workers", "2"),
        ("--scheduler", "serial"),
        pytest.param(TWO, marks=slow),
        pytest.param(LOCAL, marks=slow),
    ],
    ids=lambda options: options[1],
)
def test_a_block_that_always_fails(rig, whole, options):
    """Nothing but images is computed here, so that all other blocks can be done."""
    lone = ("--set", "output.save=[ground]")
    reference = rig.copy(rig.folder.parent / "reference")
    reference.run(*lone)
    rig.fault(do="raise")
    said = rig.run(*lone, *options, expect=3)
    blocks = reference.record()["plan"]["blocks"]
    assert f"1 of {blocks} blocks failed, 3 times each" in said
    width = reference.record()["plan"]["block"][1]
    number = 4096 // 3 // width
    place = f"block {number} (0:256, {number * width}:{(number + 1) * width})"
    assert f"{place}: ArithmeticError: the marked pixel" in said
    assert rig.recorded(1) == blocks - 1
    assert len(list(rig.folder.glob("happened-*"))) >= 3
    rig.fault()
    said = rig.run("--resume", *lone)
    last = rig.record()["sessions"][-1]
    assert (last["blocks"], last["resumed"]) == (1, blocks - 1)
    same(rig, reference)


def test_a_value_that_lacks_a_block(rig, whole):
    rig.fault(do="raise")
    said = rig.run("--workers", "2", expect=3)
    assert "the marked pixel" in said
    assert "--resume" in said
    assert len([line for line in said.splitlines() if line.startswith("to go on:")]) == 1
    rig.fault()
    rig.run("--resume")
    same(rig, whole)


def test_a_block_that_fails_twice_is_tried_again(rig, whole):
    rig.fault(do="raise", times=2)
    rig.run("--workers", "2")
    same(rig, whole)


@slow
def test_tasks_that_dask_runs_again(rig, whole):
    """A worker is killed with what it has computed; dask computes that once more."""
    rig.fault(pause=0.02)
    with Cluster(rig, workers=3) as cluster:
        process = rig.start(*cluster.options)
        wait_for(lambda: rig.recorded(1) >= 1, process)
        kill_group(cluster.workers[0])
        wait_for(lambda: rig.recorded(3) >= 1, process)
        kill_group(cluster.workers[1])
        cluster.add()
        assert process.wait(120) == 0, rig.words
    assert len(lines_of(rig, 3)) == 8
    same(rig, whole)


def lines_of(rig, number):
    text = (rig.folder / "out.zarr.run" / f"ledger-{number}.jsonl").read_text()
    return {json.loads(line)["block"] for line in text.splitlines()[1:]}


@slow
def test_a_worker_that_hangs_and_wakes_up(rig, whole):
    """A worker is stopped, given up and replaced; then it goes on with its old block."""
    rig.fault(pause=0.02)
    with Cluster(rig, workers=2) as cluster:
        process = rig.start(*cluster.options)
        wait_for(lambda: rig.recorded(1) >= 1, process)
        os.killpg(cluster.workers[0].pid, signal.SIGSTOP)
        time.sleep(2)
        os.killpg(cluster.workers[0].pid, signal.SIGCONT)
        assert process.wait(120) == 0, rig.words
    same(rig, whole)


@slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_scheduler_is_gone(rig, whole, number):
    rig.fault(pause=0.02)
    with Cluster(rig) as cluster:
        process = rig.start(*cluster.options)
        wait_for(lambda: rig.recorded(3) >= 2, process)
        kill_group(cluster.scheduler, number)
        assert process.wait(90) == 3, rig.words
        said = rig.words  # among what dask's own log has to say
    assert "chunkfilt: the dask scheduler at" in said
    assert "to go on:" in said
    rig.fault()
    with Cluster(rig) as cluster:
        rig.run("--resume", *cluster.options)
    assert rig.record()["sessions"][-1]["resumed"] >= 18
    same(rig, whole)


@slow
def test_all_workers_are_gone(rig, whole):
    """The run waits for others, and goes on with them."""
    rig.fault(pause=0.02)
    with Cluster(rig) as cluster:
        process = rig.start(*cluster.options)
        wait_for(lambda: rig.recorded(1) >= 1, process)
        for worker in cluster.workers:
            kill_group(worker)
        time.sleep(4)
        assert process.poll() is None
        cluster.add()
        assert process.wait(120) == 0, rig.words
    same(rig, whole)


def test_no_scheduler_answers(rig):
    options = ("--set", "run.scheduler=distributed", "--set", "run.address=tcp://127.0.0.1:9")
    said = rig.run(*options, expect=2)
    assert "127.0.0.1:9" in said
    assert not rig.out.exists()
    assert contents(rig.folder)["in.zarr/zarr.json"]
