"""What is recorded of a pass, and what of it counts when the run goes on."""

import io
import json
import math
import pickle
import zipfile
from collections import Counter
from typing import NamedTuple

import numpy as np
import pytest

from chunkfilt.engine.costing import Pass
from chunkfilt.engine.graph import Source, Value, topological
from chunkfilt.errors import ChunkfiltError
from chunkfilt.filters.filter import registered
from chunkfilt.grid import Blocks, ImageSpec
from chunkfilt.kernels.checksum import image_checksum
from chunkfilt.runtime.compute import plan_in_memory
from chunkfilt.runtime.ledger import _SUM, PassLedger, _decode, _encode, _sum, last_records
from chunkfilt.runtime.options import RunOptions
from chunkfilt.runtime.passes import _Tables
from chunkfilt.runtime.tasks import BlockTask
from chunkfilt.storage.zarr_output import ArrayLayout, create_output
from tests.contracts.conftest import Case
from tests.examples import EXAMPLES

SHAPE, CHUNKS, BLOCK = (12, 10), (3, 5), (6, 5)


@pytest.fixture
def pixels():
    """Pixels with one chunk of nothing but fill values, which has no file."""
    held = np.random.default_rng(0).integers(1, 9, SHAPE).astype("uint16")
    held[3:6, 5:10] = 0
    return held


class Written:
    """An output of four blocks of two units each, and the pass that writes it."""

    def __init__(self, folder, pixels):
        self.folder, self.pixels = folder / "o.run", pixels
        spec = ImageSpec(SHAPE, np.dtype("uint16"), ("y", "x"), (0, 1))
        layout = {"": ArrayLayout(spec, CHUNKS, None, None)}
        self.store = create_output(
            folder / "o", layout, group=False, attributes={}, staging=self.folder / "staging"
        )[""]
        self.step = self.of(Source(spec, self.store.image))

    @staticmethod
    def of(node, names=("",), block=BLOCK):
        """Return a pass over blocks."""
        return Pass((), dict.fromkeys(names, node), (), Blocks(SHAPE, block), block, None)

    def ledger(self, step=None, names=("",)):
        """Open the records, as a run that goes on does."""
        return PassLedger(self.folder, 1, step or self.step, dict.fromkeys(names, self.store))

    def write(self, ledger, *blocks):
        """Store blocks and record them."""
        for index in blocks:
            region = self.step.grid[index]
            ledger.record(index, {"": self.store.write(region, self.pixels[region.slices])})
        ledger.close()

    def sum_of(self, *blocks):
        """Return the checksum of some blocks, from the pixels."""
        regions = [self.step.grid[i] for i in blocks]
        return sum(image_checksum(self.pixels[r.slices], r.start, SHAPE) for r in regions) % 2**64


@pytest.fixture
def written(tmp_path, pixels):
    return Written(tmp_path, pixels)


def test_what_is_recorded_is_done(written):
    first = written.ledger()
    assert (list(first.done), first.sums, first.complete) == ([0] * 4, {"": 0}, False)
    written.write(first, 2, 0)
    second = written.ledger()
    assert (list(second.done), second.sums) == ([1, 0, 1, 0], {"": written.sum_of(0, 2)})
    written.write(second, 1, 3)
    whole = written.ledger()
    assert whole.complete
    assert whole.sums == {"": image_checksum(written.pixels, (0, 0), SHAPE)}
    assert [index for _, index, _ in last_records(written.folder)] == [2, 0, 1, 3]


def test_a_block_recorded_twice_counts_once(written):
    written.write(written.ledger(), 1, 1)
    assert written.ledger().sums == {"": written.sum_of(1)}


@pytest.mark.parametrize("how", ["gone", "short", "flipped", "instead of fill values"])
def test_files_that_are_not_as_written_are_to_be_written_again(written, how):
    written.write(written.ledger(), 0, 1, 2, 3)
    place = written.folder.parent / "o" / "c"
    file = place / "1" / ("1" if how == "instead of fill values" else "0")
    if how == "gone":
        file.unlink()
    elif how == "short":
        file.write_bytes(file.read_bytes()[:-1])
    elif how == "flipped":
        file.write_bytes(bytes([file.read_bytes()[0] ^ 1]) + file.read_bytes()[1:])
    else:
        assert not file.exists()
        file.write_bytes(b"pixels")
    hurt = 1 if how == "instead of fill values" else 0
    held = written.ledger()
    rest = [i for i in range(4) if i != hurt]
    assert [i for i in range(4) if held.done[i]] == rest
    assert held.sums == {"": written.sum_of(*rest)}


def test_other_passes_have_other_records(written):
    written.write(written.ledger(), 0, 1, 2, 3)
    node = written.step.images[""]
    file = written.folder / "ledger-1.jsonl"
    held = file.read_text()
    other = written.of(node, block=(12, 5))
    assert sum(written.ledger(other).done) == 0
    assert json.loads(file.read_text())["block"] == [12, 5]
    for step, names in [
        (written.of(node, ["other"]), ["other"]),
        (Pass((), {"": node}, (), Blocks((13, 10), BLOCK), BLOCK, None), [""]),
    ]:
        file.write_text(held)
        assert sum(written.ledger(step, names).done) == 0
    file.write_text(held)
    assert written.ledger().complete


@pytest.mark.parametrize("cut", [1, 20, 60])
def test_a_line_that_was_cut_short_is_no_record(written, cut):
    written.write(written.ledger(), 0, 1, 2, 3)
    file = written.folder / "ledger-1.jsonl"
    text = file.read_text()
    file.write_text(text[:-cut])
    held = written.ledger()
    assert list(held.done) == [1, 1, 1, 0]
    written.write(held, 3)
    assert file.read_text() == text


def signed(text):
    """Return a record with its own sum, as they are written."""
    return f'{text[:-1]}{_SUM}{_sum(text)}"}}' if text.endswith("}") else text


def test_a_digit_that_was_changed_is_no_record(written):
    written.write(written.ledger(), 0, 1, 2, 3)
    file = written.folder / "ledger-1.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    for place, digit in enumerate(lines[2]):
        if digit.isdigit():
            hurt = f"{lines[2][:place]}{9 - int(digit)}{lines[2][place + 1 :]}"
            file.write_text("".join([*lines[:2], hurt, *lines[3:]]))
            assert list(written.ledger().done) == [1, 0, 1, 1], hurt


def test_lines_that_say_nothing_are_left_out(written):
    written.write(written.ledger(), 0, 1)
    unit = next(iter(last_records(written.folder)))[2][""][0].text()
    lines = [
        "", "nonsense", "null", "[]", "{}", "3", '{"block": null, "units": {}}', '{"block": 2}',
        '{"block": 2, "units": 3}', '{"block": 2, "units": {"": 5}}', "\x00" * 50,
        '{"block": 2, "units": {"": ["1:2:3"]}}', '{"block": 2, "units": {"": [7]}}',
        '{"block": 99, "units": {"": []}}', '{"block": -1, "units": {"": []}}',
        '{"block": 2, "units": {"another": []}}', '{"block": 2, "units": {}}',
        # Units of another block, of none, too few, and one there cannot be.
        json.dumps({"block": 3, "units": {"": [unit]}}), '{"block": 3, "units": {"": []}}',
        json.dumps({"block": 0, "units": {"": [unit]}}),
        '{"block": 3, "units": {"": ["99999:0000000000000000:-"]}}',
    ]  # fmt: skip
    file = written.folder / "ledger-1.jsonl"
    with file.open("ab") as out:
        out.write("\n".join([*lines, *map(signed, lines)]).encode() + b"\n\xff\xfe{\n")
    held = written.ledger()
    assert (list(held.done), held.sums) == ([1, 1, 0, 0], {"": written.sum_of(0, 1)})


# What is found of values.


class Pair(NamedTuple):
    """A table of two columns."""

    counts: object
    edges: object


def bits(value):
    """Return a value as plain data that is equal only to the same value, to the last bit."""
    if isinstance(value, np.ndarray) and value.dtype == object:
        return ("objects", value.shape, [bits(one) for one in value.ravel()])
    if isinstance(value, (np.ndarray, np.generic)):
        return (type(value), value.dtype.str, value.shape, value.tobytes())
    if isinstance(value, dict):
        return {key: bits(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return (type(value), [bits(one) for one in value])
    return (type(value), value.hex() if isinstance(value, float) else value)


def value_pass(node):
    """Return a pass that finds one value."""
    return Pass((node,), {}, (), Blocks((4, 4), (2, 2)), (2, 2), None)


@pytest.fixture
def step():
    image = np.arange(16, dtype="u2").reshape(4, 4)
    return value_pass(Case(registered()["histogram"], {}).bind([image]))


def again(folder, step, state):
    """Return a state as it comes back from the disk."""
    PassLedger(folder, 1, step, {}).save_values(lambda: state, now=True)
    return PassLedger(folder, 1, step, {}).state


OBJECTS = np.empty((2, 2), dtype=object)
OBJECTS[:] = [[np.arange(3), None], [Pair(np.ones(2), (1, "a")), [{"k": np.float32(0.1)}]]]
TABLES = {
    "numbers": [0, -1, 2**80, 0.1, -0.0, math.inf, -math.inf, math.nan, True, None, "ü \ud800"],
    "wild": np.array([np.nan, -0.0, np.inf, 5e-324, 1.7976931348623157e308]),
    "payload": np.array([0x7FF8000000000123, 0xFFF0000000000001], "u8").view("f8"),
    "unsigned": np.array([2**64 - 1, 2**63, 0], np.uint64),
    "empty": np.empty((0, 3), np.int8),
    "bool": np.array([True, False]),
    "complex": np.array([1 + 2j, complex(np.nan, -0.0)]),
    "big-endian": np.arange(3, dtype=">i2"),
    "columns": np.asfortranarray(np.arange(6).reshape(2, 3)),
    "scalar": (np.float64(-0.0), np.uint64(2**64 - 1), np.float32(0.1), np.array(3)),
    "tuple": (np.arange(2), (np.arange(3), ())),
    "named": Pair(np.arange(2), Pair(np.arange(3), np.arange(0))),
    "objects": OBJECTS,
    "no objects": np.empty((0, 2), object),
    "fields": np.array([(1, 2.5)], dtype=[("a", "i4"), ("b", "f8")]),
}


@pytest.mark.parametrize("name", TABLES)
def test_tables_come_back_to_the_last_bit(tmp_path, step, name):
    state = {"upcoming": 3, "tables": [[[[0], TABLES[name]]]]}
    held = again(tmp_path, step, state)
    assert bits(held["tables"]) == bits(state["tables"])
    assert held["upcoming"] == 3


VALUE_FILTERS = [
    Case(declared, params)
    for name, declared in registered().items()
    for params in EXAMPLES.get(name, [{}])[:3]
    if not name.startswith("_")
]


def values_in(case, dtype):
    """Return the values in a filter's graph over an image, in the order they are found in."""
    try:
        node = case.bind(case.images((6, 7), dtype))
    except ChunkfiltError:
        return []
    return [one for one in topological([node]) if isinstance(one, Value)]


@pytest.mark.parametrize("dtype", ["uint8", "uint32", "float64"])
def test_values_of_every_filter_come_back_to_the_last_bit(tmp_path, dtype):
    found = set()
    for case in VALUE_FILTERS:
        values = values_in(case, dtype)
        if not values:
            continue
        plan = plan_in_memory({str(i): one for i, one in enumerate(values)}, RunOptions("serial"))
        known = {}
        for number, planned in enumerate(plan.steps):
            step = value_pass(planned.values[0])
            grid = Blocks(planned.grid.shape, (4,) * len(planned.grid.shape))
            task = BlockTask(planned.values, {}, grid, grid.block, None, dict(known))
            tables = [_Tables(value, grid) for value in planned.values]
            for index in range(len(grid)):
                for table, partial in zip(tables, task(index).partials, strict=True):
                    arrays = []
                    assert bits(_decode(_encode(partial, arrays), arrays)) == bits(partial), case
                    table.add(index, partial)
                state = {"upcoming": number, "tables": [one.state() for one in tables]}
            assert bits(again(tmp_path, step, state)["tables"]) == bits(state["tables"]), case
            for value, table in zip(planned.values, tables, strict=True):
                other = _Tables(value, grid)
                other.restore(table.state(), len(grid))
                assert bits(other.table()) == bits(table.table())
                known[value] = table.table()
                found.add(value.filter.name)
    assert found >= {"histogram", "statistics", "extrema"}


class Own:
    """A user's own kind of partial."""


class Named(tuple):
    """One that looks like a tuple."""


@pytest.mark.parametrize(
    "table",
    [
        Own(),
        np.array([Own()], dtype=object),
        Named((1, 2)),
        np.array([Counter("abc")], dtype=object),
        np.array([{5: 3}], dtype=object),
        np.array([{1, 2}], dtype=object),
        np.ma.masked_equal([1, 2], 2),
        np.array([(None,)], dtype=[("a", object)]),
    ],
    ids=lambda one: type(one).__name__,
)
def test_a_kind_that_is_not_ours_is_not_written_down(tmp_path, step, table):
    assert again(tmp_path, step, {"upcoming": 1, "tables": [[[[0], table]]]}) is None
    assert not (tmp_path / "values-1.npz").exists()


def test_values_of_another_pass_are_not_taken(tmp_path, step):
    assert again(tmp_path, step, {"upcoming": 2, "tables": [[[[0], np.arange(2)]]]}) is not None
    other = Pass(step.values, {}, (), Blocks((4, 4), (4, 2)), (4, 2), None)
    assert PassLedger(tmp_path, 1, other, {}).state is None
    assert list(PassLedger(tmp_path, 1, step, {}).done) == [1, 1, 0, 0]


class Bomb:
    """Says so when it is unpickled."""

    def __reduce__(self):
        return print, ("unpickled",)


def npz(*arrays):
    """Return a file of arrays, in which objects are pickled."""
    out = io.BytesIO()
    np.savez(out, *arrays)
    return out.getvalue()


def held_as(head, table):
    state = {"map": {"head": head, "upcoming": 1, "tables": [[[[0], table]]]}}
    return np.frombuffer(json.dumps(state).encode(), np.uint8)


def text(state):
    return npz(np.frombuffer(json.dumps({"map": state}).encode(), np.uint8))


def zipped(parts):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return out.getvalue()


HOSTILE = {
    "nothing": lambda head: b"",
    "no archive": lambda head: b"nonsense" * 99,
    "a pickle": lambda head: pickle.dumps(Bomb()),
    "pickled text": lambda head: npz(np.array([Bomb()], object)),
    "pickled part": lambda head: npz(held_as(head, {"array": 0}), np.array([Bomb()], object)),
    "no JSON": lambda head: npz(np.frombuffer(b"{", np.uint8)),
    "a word": lambda head: npz(held_as(head, {"array": "x"})),
    "unknown": lambda head: npz(held_as(head, {"what": 5})),
    "no archive's array": lambda head: zipped({"arr_0.npy": b"\x93NUMPY nonsense"}),
    "truncated": lambda head: npz(held_as(head, {"array": 0}), np.arange(9))[:-99],
    "no tables": lambda head: text({"head": head, "upcoming": 1}),
    "too many tables": lambda head: text({"head": head, "upcoming": 1, "tables": [[], []]}),
    "tables that are none": lambda head: text({"head": head, "upcoming": 1, "tables": [[3]]}),
    "no number": lambda head: text({"head": head, "upcoming": "1", "tables": [[]]}),
    "too far": lambda head: text({"head": head, "upcoming": 5, "tables": [[]]}),
    **{
        name: lambda head, name=name: npz(held_as(head, {"tuple": ["touch x"], "type": name}))
        for name in (
            "os:system", "builtins:tuple", "builtins:print", "nowhere:Pair", "subprocess:Popen",
            ":", "", "builtins:eval", "collections:namedtuple", "antigravity:x",
        )
    },
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_files_of_values_run_nothing(tmp_path, step, capfd, name):
    ledger = PassLedger(tmp_path, 1, step, {})
    (tmp_path / "values-1.npz").write_bytes(HOSTILE[name](ledger._head))
    held = PassLedger(tmp_path, 1, step, {})
    assert held.state is None
    assert not any(held.done)
    assert capfd.readouterr() == ("", "")
