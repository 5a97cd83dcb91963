"""Runs that are killed, again and again, and resumed."""

import itertools
import json
import random
import time

import pytest

from tests.faults.rig import Cluster, Rig, kill_group, same, wait_for

LONG, CHUNKS = (512, 6144), (128, 128)
# What a run is begun or resumed with, one after the other.
LOCAL = {
    "threads": [("--workers", "2"), ("--workers", "3", "--memory", "1 GiB"), ("--workers", "1")],
    "processes": [("--scheduler", "processes", "--workers", n) for n in "23"],
    "distributed": [("--scheduler", "distributed", "--workers", n) for n in "21"],
    "mixed": [
        ("--workers", "2"),
        ("--scheduler", "processes", "--workers", "2"),
        ("--scheduler", "serial", "--memory", "500 MiB"),
    ],
}
KILLS = {"threads": 50, "processes": 25, "distributed": 12, "mixed": 20}


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    """A job of 48 blocks in three passes, one of whose intermediates is kept; and its calls."""
    rig = Rig(tmp_path_factory.mktemp("long") / "rig", LONG, CHUNKS)
    rig.fault(trace=True)
    said = rig.run()
    assert "keep median" in said
    assert "48 blocks computed" in said
    return rig, (rig.folder / "calls").stat().st_size


class Sessions:
    """Runs of one job, each killed after a while, until one of them ends by itself."""

    def __init__(self, rig, options, seed):
        self.rig, self.chance = rig, random.Random(seed)
        self.options, self.kills, self.late = itertools.cycle(options), 0, []

    def calls(self):
        try:
            return (self.rig.folder / "calls").stat().st_size
        except FileNotFoundError:
            return 0

    def one(self, longest):
        """Run for a while; return whether it came to its end."""
        options, before = next(self.options), self.calls()
        told = self.rig.folder / "told"
        with told.open("wb") as out:
            process = self.rig.start("--resume", "--json", *options, stdout=out)
        until = time.monotonic() + self.chance.uniform(0.3, longest)
        while process.poll() is None and time.monotonic() < until:
            time.sleep(0.01)
        over = process.poll() is not None
        code = kill_group(process)
        assert not over or code == 0, self.rig.words
        self.kills += not over
        lines = told.read_text().rpartition("\n")[0].splitlines()
        events = [json.loads(line) for line in lines]
        self.note(events, self.calls() - before, over)
        return over

    def note(self, events, calls, over):
        """Keep what a session did that had nothing to do but write."""
        passes = {one["number"]: one for one in events if one["event"] == "PassStarted"}
        if 3 in passes and all(passes[i]["resumed"] == passes[i]["blocks"] for i in (1, 2)):
            done = [one for one in events if one["event"] == "BlockDone"]
            fresh = max((one["done"] - one["resumed"] for one in done), default=0)
            blocks, workers = passes[3]["blocks"], passes[3]["workers"]
            self.late.append((blocks, fresh, calls, 0 if over else 2 * workers))


def killed_often(long, rig, options, kills, seed, longest=5.0):
    """Kill and resume until there were so many kills; compare whenever a run is done."""
    whole, calls = long
    rig.clear()
    rig.fault(pause=0.012, trace=True)
    sessions = Sessions(rig, options, seed)
    while sessions.kills < kills:
        rig.clear()
        sessions.late.clear()
        while not sessions.one(longest):
            pass
        same(rig, whole)
        # At most what was under way is computed again: two blocks a worker, each at each kill.
        # Half of the function's calls are of the first pass.
        for blocks in {one[0] for one in sessions.late}:
            assert sum(fresh for _, fresh, _, _ in sessions.late) <= blocks
            again = sum(under_way for *_, under_way in sessions.late)
            made = sum(made for _, _, made, _ in sessions.late)
            assert made <= calls / 2 * 1.3 * (1 + again / blocks)
        words = rig.chunkfilt("verify", "out.zarr")
        assert "as they were written" in words


@pytest.mark.faults
@pytest.mark.parametrize("kind", LOCAL)
def test_killed_at_random(long, tmp_path, kind):
    rig = long[0].copy(tmp_path / "rig")
    killed_often(long, rig, LOCAL[kind], KILLS[kind], seed=kind, longest=6.0)


@pytest.mark.faults
def test_killed_at_random_on_a_cluster(long, tmp_path):
    rig = long[0].copy(tmp_path / "rig")
    with Cluster(rig) as cluster:
        killed_often(long, rig, [cluster.options], 12, seed=1, longest=6.0)


@pytest.mark.parametrize("first", ["threads", pytest.param("processes", marks=pytest.mark.faults)])
def test_killed_and_resumed_with_other_workers(rig, whole, first):
    rig.fault(pause=0.01)
    for number, options in ((1, LOCAL[first][0]), (3, LOCAL[first][1])):
        process = rig.start("--resume", *options)
        wait_for(lambda n=number: rig.recorded(n) >= 2, process)
        kill_group(process)
    rig.fault()
    said = rig.run("--resume", "--workers", "1", "--memory", "700 MiB")
    done = rig.record()["sessions"][-1]
    assert done["resumed"] >= 18
    assert done["resumed"] + done["blocks"] == 24
    assert "done in" in said
    same(rig, whole)
