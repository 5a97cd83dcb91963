"""Progress: the events of a run, and the ways they are shown."""

import io
import itertools
import json
import re

import numpy as np
import pytest

import chunkfilt as cf
from chunkfilt.runtime import progress
from chunkfilt.runtime.progress import BlockDone, CompileStarted, PassStarted, RunFinished


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
    assert [type(e) for e in (found[0], found[-1])] == [PassStarted, RunFinished]
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
    assert found[-1].checksums == result.checksums
    assert found[-1].path.endswith("out.zarr")


def show(report, events):
    for event in events:
        report(event)


def test_json_lines_parse(events):
    out = io.StringIO()
    show(progress.json_lines(out), events[0])
    records = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [r["event"] for r in records] == [type(e).__name__ for e in events[0]]
    assert records[0] == {
        "event": "PassStarted", "number": 1, "passes": 2, "computes": ["unique_counts"],
        "blocks": records[0]["blocks"],
    }  # fmt: skip
    assert records[-1]["checksums"] == dict(events[1].checksums)


def many(blocks):
    yield PassStarted(1, 1, ("write x",), blocks)
    for done in range(1, blocks + 1):
        yield BlockDone(done, blocks, done * 1_000_000, done * 0.5)
    yield RunFinished("o.zarr", 12.34, {"x": "1"})


def test_plain_lines_are_few(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    out = io.StringIO()
    report = progress.lines(out, every=5.0)
    for event in many(100):
        report(event)
        now[0] += 0.5
    text = out.getvalue().splitlines()
    assert text[0] == "pass 1 of 1: write x"
    assert text[-2] == "block 100 of 100, 2 Mpx/s"
    assert text[-1] == "done in 12.3 s: o.zarr"
    assert 10 <= len(text) <= 14
    assert all(re.fullmatch(r"block \d+ of 100, 2 Mpx/s", line) for line in text[1:-1])


def test_no_block_takes_no_time():
    out = io.StringIO()
    progress.lines(out)(BlockDone(1, 1, 10, 0.0))
    assert "block 1 of 1" in out.getvalue()


def test_lines_where_nobody_watches_a_bar_where_somebody_does(monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: False, raising=False)
    show(progress.suitable(), many(3))
    caught = capsys.readouterr()
    assert "done in 12.3 s" in caught.err
    assert caught.out == ""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    show(progress.suitable(), many(3))
    caught = capsys.readouterr()
    assert "3/3 blocks" in caught.err
    assert "write x" in caught.err
    assert caught.out == ""


def test_silence(mosaic, tmp_path, capsys):
    progress.silent(BlockDone(1, 1, 1, 1.0))
    cf.open(mosaic).save(tmp_path / "o.zarr", progress=False)
    assert capsys.readouterr() == ("", "")
    cf.open(mosaic).save(tmp_path / "p.zarr")
    assert "done in" in capsys.readouterr().err
