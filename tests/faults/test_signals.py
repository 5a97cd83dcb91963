"""SIGINT and SIGTERM: a run ends soon, says how to go on, and goes on."""

import shlex
import signal
import sys
import time

import pytest

from tests.faults.rig import Cluster, kill_group, same, wait_for

ENDINGS = {signal.SIGINT: 130, signal.SIGTERM: 143}
# What the block that the signal comes into the midst of is busy with, for longer than we wait.
BUSY = {"sleep": 40, "hold": 6}


def interrupted(rig, number, *options, wait=lambda: True):
    """Interrupt a run; return the command line that it says goes on."""
    process = rig.start(*options)
    wait_for(wait, process)
    began = time.monotonic()
    process.send_signal(number)
    code = process.wait(30)
    passed = time.monotonic() - began
    kill_group(process)
    said = rig.words
    assert "Traceback" not in said
    assert code == ENDINGS[number], said
    assert passed < 10 + 10  # ten seconds, and what a machine busy with other tests may add
    (line,) = [line for line in said.splitlines() if line.startswith("to go on:")]
    return line.partition(":")[2].strip()


def goes_on(rig, whole, line):
    """Run exactly the line that was printed; it completes the run."""
    program, *words = shlex.split(line)
    assert program == "chunkfilt"
    rig.fault()
    rig.call([sys.executable, "-m", "chunkfilt", *words])
    same(rig, whole)


@pytest.mark.parametrize(
    ("number", "options"),
    [
        (signal.SIGINT, ("--workers", "2")),
        (signal.SIGTERM, ("--scheduler", "processes", "--set", "run.memory=1 GiB")),
    ],
)
def test_between_blocks(rig, whole, number, options):
    rig.fault(pause=0.02)
    line = interrupted(rig, number, *options, wait=lambda: rig.recorded(3) >= 2)
    done = rig.recorded(3)
    goes_on(rig, whole, line)
    assert done < 8
    assert rig.record()["sessions"][-1]["resumed"] >= 16 + done


@pytest.mark.parametrize(
    ("number", "do", "scheduler"),
    [
        (signal.SIGINT, "sleep", "threads"),
        pytest.param(signal.SIGTERM, "hold", "threads", marks=pytest.mark.faults),
        (signal.SIGINT, "sleep", "serial"),
        (signal.SIGTERM, "sleep", "processes"),
        pytest.param(signal.SIGTERM, "sleep", "distributed", marks=pytest.mark.faults),
        pytest.param(signal.SIGINT, "hold", "distributed", marks=pytest.mark.faults),
        pytest.param(signal.SIGINT, "hold", "processes", marks=pytest.mark.faults),
        pytest.param(signal.SIGTERM, "hold", "serial", marks=pytest.mark.faults),
    ],
)
def test_in_the_midst_of_a_long_block(rig, whole, number, do, scheduler):
    rig.fault(do=do, seconds=BUSY[do])
    busy = rig.folder / "happened-0"
    line = interrupted(rig, number, "--scheduler", scheduler, wait=busy.exists)
    outcome = rig.record()["sessions"][-1]["outcome"]
    assert outcome
    goes_on(rig, whole, line)


@pytest.mark.faults
@pytest.mark.parametrize("number", ENDINGS)
def test_on_a_cluster_in_the_midst_of_a_long_block(rig, whole, number):
    rig.fault(do="sleep", seconds=12)
    with Cluster(rig) as cluster:
        busy = rig.folder / "happened-0"
        line = interrupted(rig, number, *cluster.options, wait=busy.exists)
        goes_on(rig, whole, line)


def test_twice_in_a_hurry(rig, whole):
    """A second signal, while the first is being seen to, changes nothing."""
    rig.fault(do="sleep", seconds=30)
    process = rig.start("--workers", "2")
    wait_for((rig.folder / "happened-0").exists, process)
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    assert "Traceback" not in rig.words
    rig.fault()
    rig.run("--resume")
    same(rig, whole)


def test_before_the_first_block(rig, whole):
    """However early it comes, the exit code says so, and nothing is in the way of a new run."""
    for moment in (0.05, 0.25, 0.4):
        process = rig.start("--resume")
        time.sleep(moment)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) in (143, -signal.SIGTERM, 0)
    rig.run("--resume")
    same(rig, whole)
