"""Progress: the events of a run, and the ways they are shown."""

import io
import itertools
import json
import re
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from rich.console import Console

import chunkfilt as cf
from chunkfilt.errors import StorageError
from chunkfilt.runtime import progress
from chunkfilt.runtime.progress import (
    BlockDone,
    BlockFailed,
    CompileStarted,
    PassStarted,
    RunFinished,
    RunStarted,
    RunStopped,
)

MIB = 1 << 20
DASHBOARD = "http://127.0.0.1:8787/status"


@pytest.fixture
def events(mosaic, tmp_path):
    """The events of a run of two passes, and its result."""
    found = []
    image = cf.equalize_hist(cf.open(mosaic))
    result = cf.save(
        {"e": image}, tmp_path / "out.zarr", chunks=(16, 16), workers=2, progress=found.append
    )
    # A machine's first run compiles, and says so.
    return [event for event in found if not isinstance(event, CompileStarted)], result


def test_the_events_of_a_run(events):
    found, result = events
    assert [type(e) for e in (found[0], found[1], found[-1])] == [
        RunStarted, PassStarted, RunFinished,
    ]  # fmt: skip
    started = [e for e in found if isinstance(e, PassStarted)]
    assert [(e.number, e.passes) for e in started] == [(1, 2), (2, 2)]
    assert started[0].computes == ("unique_counts",)
    assert "e" in started[1].computes[0]
    ends = [i for i, e in enumerate(found) if isinstance(e, PassStarted)] + [len(found) - 1]
    for begin, end in itertools.pairwise(ends):
        blocks = found[begin + 1 : end]
        assert [b.done for b in blocks] == list(range(1, found[begin].blocks + 1))
        assert all(b.blocks == found[begin].blocks for b in blocks)
        assert np.all(np.diff([b.pixels for b in blocks]) > 0)
        assert blocks[-1].pixels == 40 * 50
        assert all(b.seconds >= 0 for b in blocks)
        assert all(b.peak > 0 for b in blocks)
    first, last = found[0], found[-1]
    assert (first.blocks, first.passes, first.workers) == (started[0].blocks, 2, 2)
    assert first.dashboard is None
    assert first.planned_memory == last.planned_memory == result.plan.peak
    assert first.path == last.path == str(result.path)
    assert last.checksums == result.checksums
    assert last.peak == max(b.peak for b in found if isinstance(b, BlockDone))
    assert (last.blocks, last.resumed) == (first.tasks, 0)


def show(report, events):
    for event in events:
        report(event)


def long_run(failed=0):
    """The events of a run that goes on with an earlier one: its first pass has nothing to do."""
    yield RunStarted("o [x].zarr", 100, 200, 2, 3, 512 * MIB, DASHBOARD)
    yield PassStarted(1, 2, ("histogram",), 100, resumed=100, workers=3)
    yield PassStarted(2, 2, ("write [m]", "write v"), 100, resumed=40, workers=3)
    for fresh in range(1, 61 - failed):
        done = 40 + fresh
        yield BlockDone(done, 100, done * 10**6, fresh * 0.5, 2.04, 40, 0, 3, 300 * MIB)
    for bad in range(1, failed + 1):
        yield BlockFailed(99, "0:16, 16:32", "OSError: disk on fire")
        done = 100 - failed
        yield BlockDone(done, 100, done * 10**6, 30.0, 2.04, 40, bad, 3, 300 * MIB)
    if failed:
        yield RunStopped(f"{failed} of 100 blocks failed")
        return
    sums = {"m": "0a1b", "v": "2c3d"}
    yield RunFinished("o [x].zarr", 4000.0, sums, 60, 140, 60 * 10**9, 300 * MIB, 512 * MIB)


def test_words():
    told = [progress.in_words(event, 512 * MIB) for event in long_run()]
    assert told[0] == (
        "o [x].zarr: 100 blocks, 2 passes, 3 workers, at most 512.0 MiB a process, "
        f"dashboard {DASHBOARD}"
    )
    assert told[1] == "pass 1 of 2: histogram; nothing to do, all 100 blocks done before"
    assert told[2] == "pass 2 of 2: write [m], write v; 40 of 100 blocks done before"
    assert told[12] == (
        "50 of 100 blocks (40 resumed), 2 Mpx/s, 25.0 s left, 3 workers, "
        "peak 300.0 MiB of 512.0 MiB"
    )
    assert told[-1] == (
        "done in 1 h 06 min: o [x].zarr, 60 blocks computed and 140 resumed, 15 Mpx/s, "
        "peak 300.0 MiB of 512.0 MiB\n  checksum m: 0a1b\n  checksum v: 2c3d"
    )
    told = [progress.in_words(event) for event in long_run(failed=2)]
    assert told[-3] == "block 99 (0:16, 16:32) failed: OSError: disk on fire"
    failed = "98 of 100 blocks (40 resumed, 2 failed), 2 Mpx/s, 3 workers, peak 300.0 MiB"
    assert told[-2] == failed
    assert told[-1] == "stopped: 2 of 100 blocks failed"


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (RunStarted("o", 1, 1, 1, 1, 0), "o: 1 block, 1 pass, 1 worker"),
        (PassStarted(1, 1, ("write",), 5), "pass 1 of 1: write"),
        (PassStarted(1, 1, ("write",), 1, 1),
         "pass 1 of 1: write; nothing to do, all 1 block done before"),
        # All that was tried has failed: nothing tells a rate, or how long it will take.
        (BlockDone(2, 5, 20, 3.0, 0.0, 2, 1), "2 of 5 blocks (2 resumed, 1 failed), 1 worker"),
        (BlockDone(1, 1, 10), "1 of 1 block, 0 Mpx/s, 1 worker"),
        (BlockDone(1, 2, 10, 1.0, 0.034), "1 of 2 blocks, 0.034 Mpx/s, 1.0 s left, 1 worker"),
        (RunFinished("o", 12.34, {"": "1"}), "done in 12.3 s: o\n  checksum: 1"),
        (RunFinished("o", 0.0, {}, 2, 0, 8, 3 * MIB),
         "done in 0.0 s: o, 2 blocks computed, 8000 Mpx/s, peak 3.0 MiB"),
        (RunFinished("o", 1.0, {}, 0, 9), "done in 1.0 s: o, 0 blocks computed and 9 resumed"),
    ],
)  # fmt: skip
def test_what_is_not_known_is_not_said(event, words):
    assert progress.in_words(event) == words


def records_of(out):
    return [json.loads(line, parse_constant=pytest.fail) for line in out.getvalue().splitlines()]


def test_json_lines_parse(events):
    out = io.StringIO()
    show(progress.json_lines(out), events[0])
    records = records_of(out)
    assert [r["event"] for r in records] == [type(e).__name__ for e in events[0]]
    now = datetime.now(UTC)
    for record in records:
        assert timedelta(0) <= now - datetime.fromisoformat(record["time"]) < timedelta(minutes=5)
    assert {**records[1], "time": None} == {
        "event": "PassStarted", "time": None, "number": 1, "passes": 2,
        "computes": ["unique_counts"], "blocks": records[0]["blocks"], "resumed": 0, "workers": 2,
    }  # fmt: skip
    assert records[-1]["checksums"] == dict(events[1].checksums)
    assert records[-2]["seconds_left"] == 0


def test_json_has_no_infinities():
    out = io.StringIO()
    report = progress.json_lines(out)
    report(BlockDone(1, 3, 5, 0.5, float("inf"), resumed=1))
    report(BlockDone(1, 3, 5, float("nan"), 2.0))
    report(RunFinished("ü\n", float("-inf"), {}))
    first, second, third = records_of(out)
    assert first["mpx_per_s"] is first["seconds_left"] is None
    assert second["seconds"] is second["seconds_left"] is third["seconds"] is None
    assert (second["mpx_per_s"], third["path"]) == (2.0, "ü\n")


def test_plain_lines_are_few(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    out = io.StringIO()
    report = progress.lines(out, every=5.0)
    for event in long_run():
        report(event)
        now[0] += 0.5
    text = out.getvalue().splitlines()
    assert text[0].startswith("o [x].zarr: 100 blocks")
    assert text[1].endswith("all 100 blocks done before")
    assert text[2] == "pass 2 of 2: write [m], write v; 40 of 100 blocks done before"
    assert text[-4] == (
        "100 of 100 blocks (40 resumed), 2 Mpx/s, 3 workers, peak 300.0 MiB of 512.0 MiB"
    )
    assert text[-3].startswith("done in 1 h 06 min: o [x].zarr")
    blocks = text[3:-3]
    assert 5 <= len(blocks) <= 8
    assert all(re.match(r"\d+ of 100 blocks \(40 resumed\), 2 Mpx/s", line) for line in blocks)


def test_every_failure_is_a_line_and_the_reason_is_left_to_the_error():
    out = io.StringIO()
    show(progress.lines(out, every=1e9), long_run(failed=2))
    text = out.getvalue().splitlines()
    assert sum("disk on fire" in line for line in text) == 2
    assert "98 of 100 blocks (40 resumed, 2 failed)" in text[-1]
    assert "stopped" not in out.getvalue()


def drawn(events, width):
    """What a bar leaves on a terminal: as it was written, and without what was drawn over."""
    console = Console(
        file=io.StringIO(), record=True, width=width, force_terminal=True, color_system=None
    )
    show(progress.bar(console), events)
    written = console.file.getvalue()
    return written, re.split(r"\x1b\[2K", written)[-1]


@pytest.mark.parametrize("width", [80, 120])
def test_the_bar_fits_the_terminal(width):
    written, last = drawn(long_run(), width)
    assert "write [m], write v" in written
    assert DASHBOARD in written
    assert "histogram; nothing to do, all 100 blocks done before" in written
    assert "100%" in last
    assert "100 of 100 blocks (40 resumed)" in last.replace("\n", " ")
    assert "peak 300.0 MiB of 512.0 MiB" in re.sub(r" *\n", " ", last)
    assert "checksum v: 2c3d" in last
    bars = [line for line in re.split(r"[\r\n]", last) if "%" in line]
    assert all(len(re.sub(r"\x1b\[\S*?[a-zA-Z]", "", line)) <= width for line in bars)


def test_the_bar_reaches_its_end_with_failed_blocks():
    written, last = drawn(long_run(failed=3), 100)
    assert "98%" not in last
    assert "100%" in last
    assert "97 of 100 blocks (40 resumed, 3 failed)" in last
    assert written.count("disk on fire") == 3
    # The cursor is shown again: the bar is no longer drawn.
    assert written.rindex("\x1b[?25h") > written.rindex("\x1b[?25l")


def test_a_bar_that_is_stopped_lets_go_of_the_terminal():
    events = itertools.islice(long_run(), 20)
    written, _ = drawn([*events, RunStopped("KeyboardInterrupt")], 100)
    assert written.rindex("\x1b[?25h") > written.rindex("\x1b[?25l")
    assert "KeyboardInterrupt" not in written


def test_lines_where_nobody_watches_a_bar_where_somebody_does(monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: False, raising=False)
    show(progress.suitable(), long_run())
    caught = capsys.readouterr()
    assert "done in 1 h 06 min" in caught.err
    assert caught.out == ""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    show(progress.suitable(), long_run())
    caught = capsys.readouterr()
    assert "100%" in caught.err
    assert "write [m]" in caught.err
    assert caught.out == ""


def test_a_log_file_holds_every_event_with_its_time(tmp_path):
    path = tmp_path / "run.log"
    path.write_text("what was there\n")
    report = progress.log_lines(path)
    for event in long_run(failed=1):
        report(event)
        # Line by line: who watches the file sees where the run is.
        assert progress.in_words(event, 512 * MIB).splitlines()[-1] in path.read_text()
    show(progress.log_lines(str(path)), long_run())
    first, *text = path.read_text(encoding="utf-8").splitlines()
    assert first == "what was there"
    stamped = [line.split(" ", 1) for line in text]
    times = [datetime.fromisoformat(time) for time, _ in stamped]
    assert times == sorted(times)
    assert times[0].utcoffset() == timedelta(0)
    assert "stopped: 1 of 100 blocks failed" in [words for _, words in stamped]
    assert sum(words.startswith("block 99") for _, words in stamped) == 1
    assert stamped[-1][1] == "  checksum v: 2c3d"
    lone = "surrogate \udcff"
    progress.log_lines(path)(RunStopped(lone))
    assert "surrogate \\udcff" in path.read_text()


def test_a_log_file_is_opened_when_it_is_needed(tmp_path):
    path = tmp_path / "no" / "run.log"
    report = progress.log_lines(path)
    with pytest.raises(StorageError, match=r"cannot write the log .*run\.log: No such file"):
        report(CompileStarted())
    path.parent.mkdir()
    report(CompileStarted())
    report(RunStopped("enough"))
    path.rename(path.with_name("old.log"))
    report(CompileStarted())
    report(RunStopped("again"))
    assert path.read_text().splitlines()[-1].endswith(" stopped: again")


def test_a_log_stream_stays_open():
    out = io.StringIO()
    show(progress.log_lines(out), long_run())
    assert "checksum v" in out.getvalue()


def test_several_reports_together():
    one, two = [], []
    show(progress.together(one.append, two.append, progress.silent), long_run())
    assert one == two == list(long_run())


def test_silence(mosaic, tmp_path, capsys):
    progress.silent(BlockDone(1, 1, 1, 1.0))
    cf.open(mosaic).save(tmp_path / "o.zarr", progress=False)
    assert capsys.readouterr() == ("", "")
    cf.open(mosaic).save(tmp_path / "p.zarr")
    assert "done in" in capsys.readouterr().err
