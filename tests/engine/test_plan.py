"""The plan: integers only, whole write units, within the budget, told in clear words."""

import itertools
import re
import tracemalloc

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from chunkfilt.engine.bind import bind
from chunkfilt.engine.graph import Source, crop, value_depths
from chunkfilt.engine.plan import Layout, default_chunks, format_bytes, make_plan
from chunkfilt.errors import BudgetError, InputError
from chunkfilt.filters.filter import find_filter
from chunkfilt.grid import ImageSpec, round_up

MIB = 1 << 20
GIB = 1 << 30
UNITS = {"B": 1, "KiB": 1 << 10, "MiB": MIB, "GiB": GIB, "TiB": 1 << 40}


class Chunked:
    """A reader that knows its chunks; planning reads no pixel."""

    def __init__(self, chunks):
        self.chunks = chunks

    def read(self, region):
        raise AssertionError("planning reads no pixel")


def source(shape, chunks, dtype="uint16", axes=None, spatial=None):
    axes = axes or tuple("tczyx"[5 - len(shape) :])
    spatial = tuple(range(len(shape))) if spatial is None else spatial
    return Source(ImageSpec(tuple(shape), np.dtype(dtype), axes, spatial), Chunked(chunks))


def node(name, *inputs, **params):
    return bind(find_filter(name), inputs, params)


def layout(one, unit, chunk=None):
    return Layout(one.spec, tuple(unit), int(np.prod(chunk or unit)) * one.spec.dtype.itemsize)


def plan(one, unit, *, budget=GIB, workers=2, base=100 * MIB, **options):
    return make_plan(
        {"": one}, {"": layout(one, unit)}, budget=budget, workers=workers, base=base, **options
    )


UNIT = st.integers(1, 9)
SIDES = st.tuples(st.integers(1, 40), st.integers(1, 12))


@settings(max_examples=80, deadline=None)
@given(
    st.lists(SIDES, min_size=1, max_size=3),
    st.lists(st.integers(1, 4), min_size=3, max_size=3),
    st.booleans(),
)
def test_blocks_are_whole_write_units_and_cover_every_pixel_once(sides, shards, given_block):
    shape, chunks = zip(*sides, strict=True)
    unit = tuple(c * s for c, s in zip(chunks, shards, strict=False))
    one = node("mean", source(shape, chunks), size=4)
    asked = tuple(s + 3 for s in shards[: len(shape)]) if given_block else None
    made = plan(one, unit, block=asked)
    assert all(b % u == 0 for b, u in zip(made.block, unit, strict=True))
    assert all(b <= round_up(n, u) for b, u, n in zip(made.block, unit, shape, strict=True))
    written = np.zeros(shape, dtype=int)
    owners = {}
    for index, region in enumerate(made.grid):
        written[region.slices] += 1
        spans = [
            range(a // u, -(-b // u))
            for a, b, u in zip(region.start, region.stop, unit, strict=True)
        ]
        for file in itertools.product(*spans):
            assert owners.setdefault(file, index) == index
    assert (written == 1).all()
    assert len(owners) == np.prod([-(-n // u) for n, u in zip(shape, unit, strict=True)])
    assert made.blocks == made.tasks == len(made.grid)


def test_strips_are_cut_along_the_first_spatial_axis_only():
    image = source((6, 8192, 8192), (1, 512, 512), spatial=(1, 2))
    one = node("equalize_hist", node("gaussian", image, sigma=2.0))
    made = plan(one, (1, 512, 512), budget=8 * GIB, block=(4, 8192, 2048))
    assert made.strip[0] == made.block[0] == 4
    assert made.strip[2] == made.block[2]
    assert made.strip[1] < made.block[1]
    assert all(step.walked == "y" for step in made.steps)


@given(st.tuples(UNIT, UNIT), st.tuples(UNIT, UNIT))
@settings(max_examples=30, deadline=None)
def test_blocks_are_whole_units_of_every_output(first, second):
    image = source((50, 50), (10, 10))
    outputs = {"a": node("mean", image), "b": node("maximum", image)}
    layouts = {"a": layout(outputs["a"], first), "b": layout(outputs["b"], second)}
    made = make_plan(outputs, layouts, budget=GIB, workers=1, base=0)
    for unit in (first, second):
        assert all(b % u == 0 for b, u in zip(made.block, unit, strict=True))


@settings(max_examples=8, deadline=None)
@given(
    st.sampled_from([8, 16, 40, 100, 400, 2000]),
    st.integers(1, 8),
    st.sampled_from([0, 30, 120]),
)
def test_the_chosen_block_is_within_the_budget(budget, workers, base):
    image = source((32768, 32768), (256, 256))
    one = node("variance", node("gaussian", image, sigma=4.0), size=15)
    try:
        made = plan(one, (256, 256), budget=budget * MIB, workers=workers, base=base * MIB)
    except BudgetError:
        with pytest.raises(BudgetError):
            plan(
                one,
                (256, 256),
                budget=budget * MIB,
                workers=workers,
                base=base * MIB,
                block=(256, 256),
            )
        return
    assert made.peak == sum(made.memory.values()) <= budget * MIB
    assert made.memory["interpreter and libraries"] == base * MIB
    # The peak holds at least what one task cannot do without, for every worker.
    pixels = np.prod(made.strip)
    assert made.peak - base * MIB >= workers * pixels * (2 + 4)


def test_more_memory_makes_no_dearer_block():
    image = source((65536, 65536), (512, 512))
    one = node("mean", image, size=51)
    budgets = [150, 200, 400, 800, 1600]
    costs = [plan(one, (512, 512), budget=b * MIB).halo_cost for b in budgets]
    # Of blocks that cost nearly the same, the one that takes less memory is chosen.
    assert all(b <= 1.1 * a for a, b in itertools.pairwise(costs))
    assert costs[-1] < costs[0]


def told_budget(message):
    amount, unit = re.search(r"memory: ([\d.]+) (B|KiB|MiB|GiB|TiB)", message).groups()
    return int(float(amount) * UNITS[unit])


NEEDED = st.one_of(
    st.integers(60 * MIB, 40 * GIB),
    # Just above a round number of GiB or MiB, where rounding the figure may lose too much.
    st.builds(lambda n, more: int(n * GIB * more), st.integers(1, 4), st.floats(1.0, 1.02)),
    st.builds(lambda n, more: int(n * MIB * more), st.integers(60, 990), st.floats(1.0, 1.02)),
)


@settings(max_examples=60, deadline=None)
@given(NEEDED, st.integers(1, 3))
@example(1_075_500_000, 1)
def test_the_budget_an_error_names_is_one_that_works(needed, workers):
    one = node("variance", node("mean", source((2048, 2048), (512, 512))), size=5)
    unit = (512, 512)
    tasks = plan(one, unit, block=unit, base=0, budget=1 << 60, workers=workers).peak
    base = needed - tasks
    with pytest.raises(BudgetError) as caught:
        plan(one, unit, budget=needed - 1, workers=workers, base=base)
    said = str(caught.value)
    assert said.startswith(("mean: ", "variance: "))
    assert "512 y x 512 x" in said
    assert plan(one, unit, budget=told_budget(said), workers=workers, base=base)


def test_the_budget_an_error_names_is_the_smallest_but_for_rounding():
    one = node("variance", source((4096, 4096), (1024, 1024)), size=5)
    with pytest.raises(BudgetError) as caught:
        plan(one, (1024, 1024), budget=MIB)
    with pytest.raises(BudgetError):
        plan(one, (1024, 1024), budget=int(told_budget(str(caught.value)) * 0.85))


def test_fewer_workers_are_named_where_they_would_fit():
    one = node("mean", source((8192, 8192), (1024, 1024)), size=5)
    alone = plan(one, (1024, 1024), workers=1, block=(1024, 1024)).peak
    with pytest.raises(BudgetError) as caught:
        plan(one, (1024, 1024), budget=alone * 2, workers=16, base=100 * MIB)
    workers = int(re.search(r"workers: (\d+)", str(caught.value)).group(1))
    assert 1 <= workers < 16
    plan(one, (1024, 1024), budget=alone * 2, workers=workers)


def test_the_dearest_step_is_the_one_named():
    image = source((4096, 4096), (1024, 1024), dtype="uint8")
    bank = node("gabor_bank", node("mean", image))
    with pytest.raises(BudgetError, match=r"^gabor_bank: "):
        plan(bank, (1024, 1024), budget=101 * MIB)


def test_ten_million_blocks_and_more_are_never_a_list():
    side = 10**7
    one = node("equalize_hist", node("mean", source((side, side), (4096, 4096)), size=5))
    tracemalloc.start()
    made = plan(one, (4096, 4096), budget=2 * GIB)
    text = str(made)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert made.grid[made.blocks - 1].stop == (side, side)
    assert made.blocks >= 10**5
    stored = [node.spec for step in made.steps for node in (*step.keeps, *step.images.values())]
    assert made.written_bytes == sum(side * side * one.dtype.itemsize for one in stored)
    assert "10000000 y x 10000000 x" in text
    assert peak < 4 * MIB


@pytest.mark.parametrize(
    ("dtype", "steps", "passes"),
    [
        ("uint8", ["mean"], [("write image",)]),
        ("uint8", ["equalize_hist"], [("unique_counts",), ("write image",)]),
        ("float32", ["equalize_hist"], [("extrema",), ("histogram",), ("write image",)]),
        (
            "uint8",
            ["equalize_hist", "mean", "equalize_hist"],
            [("unique_counts",), ("extrema",), ("histogram",), ("write image",)],
        ),
    ],
)
def test_passes_are_the_depth_of_values_plus_one(dtype, steps, passes):
    last = source((4096, 4096), (512, 512), dtype)
    for step in steps:
        last = node(step, last)
    made = plan(last, (512, 512), keep=False)
    assert made.passes == tuple(passes)
    assert len(passes) == max(value_depths([last]).values(), default=-1) + 2
    assert made.tasks == made.blocks * len(passes)
    for number in range(1, len(passes) + 1):
        assert f"pass {number} of {len(passes)}" in str(made)


def dear_then_equalized():
    slow = source((8192, 8192), (512, 512))
    for _ in range(12):
        slow = node("gaussian", slow, sigma=2.0)
    return node("equalize_hist", slow)


def test_what_is_dear_is_kept_for_the_later_passes_and_the_plan_says_so():
    last = dear_then_equalized()
    made = plan(last, (512, 512), block=(1024, 1024))
    first, *later = made.steps
    assert [one.filter.name for one in first.keeps] == ["gaussian"]
    assert first.keeps[0] is last.image
    assert not any(step.keeps for step in later)
    assert "keep gaussian" in made.passes[0]
    assert any("gaussian kept on disk" in note for note in made.notes)
    assert made.written_bytes == 8192 * 8192 * (4 + 4)
    # No pass more or less for it.
    without = plan(last, (512, 512), block=(1024, 1024), keep=False)
    assert len(without.steps) == len(made.steps)
    assert not any(step.keeps for step in without.steps)
    assert without.written_bytes == 8192 * 8192 * 4


def test_what_is_cheap_is_computed_in_every_pass_and_the_plan_says_so():
    cheap = node("equalize_hist", node("abs", source((8192, 8192), (512, 512), "int16")))
    made = plan(cheap, (512, 512))
    assert not any(step.keeps for step in made.steps)
    assert any("abs computed in more than one pass" in note for note in made.notes)
    assert made.read_bytes == 2 * 8192 * 8192 * 2


def test_a_value_alone_needs_no_pass_to_write():
    found = node("statistics", source((4096, 4096), (512, 512)), percentiles=[5.0])
    made = make_plan({"s": found}, {}, budget=GIB, workers=2, base=0)
    assert made.passes == (("statistics",),)
    assert made.written_bytes == 0
    assert all(b % 512 == 0 for b in made.block)


def test_values_of_small_planes_are_computed_within_the_block():
    stack = source((1000, 256, 256), (1, 256, 256), "uint8", ("t", "y", "x"), (1, 2))
    made = plan(node("equalize_hist", stack), (1, 256, 256))
    assert made.passes == (("write image",),)
    assert any("unique_counts within each block" in note for note in made.notes)
    together = plan(node("equalize_hist", stack, scope="all"), (1, 256, 256))
    assert together.passes == (("unique_counts",), ("write image",))


def test_the_value_of_an_image_behind_a_crop_sweeps_that_image():
    image = source((4096, 4096), (512, 512), "uint8")
    part = crop(node("equalize_hist", image), {0: (0, 100), 1: (10, 300)})
    made = plan(part, (64, 64))
    assert made.grid_shape == (100, 290)
    assert made.steps[0].grid.shape == (4096, 4096)
    assert made.steps[-1].grid.shape == (100, 290)


def test_outputs_of_different_shapes_are_refused():
    image = source((100, 100), (10, 10))
    outputs = {"whole": node("mean", image), "part": crop(image, {0: (0, 50)})}
    layouts = {name: layout(one, (10, 10)) for name, one in outputs.items()}
    with pytest.raises(InputError, match=r"whole is \(100, 100\), part is \(50, 100\)"):
        make_plan(outputs, layouts, budget=GIB, workers=1, base=0)
    with pytest.raises(InputError, match="nothing to compute"):
        make_plan({}, {}, budget=GIB, workers=1, base=0)


def test_leading_axes_are_held_in_full_and_paid_for():
    image = source((4096, 4096), (256, 256), "uint8")
    bank = node("gabor_bank", image)
    made = plan(bank, (256, 256), budget=4 * GIB)
    assert made.grid_shape == (4096, 4096)
    assert made.memory["output"] >= 2 * 24 * 4 * np.prod(made.strip)


def test_bytes_read_grow_with_the_halo():
    image = source((8192, 8192), (512, 512))
    bare = plan(node("abs", image), (512, 512), block=(1024, 1024))
    wide = plan(node("mean", image, size=101), (512, 512), block=(1024, 1024))
    assert bare.read_bytes == 8192 * 8192 * 2
    assert bare.halo_cost == 1.0
    # Blocks at the image's two ends have a halo on one side.
    assert wide.halo_cost == pytest.approx(((2 * 1074 + 6 * 1124) / 8192) ** 2)
    assert wide.read_bytes == pytest.approx(bare.read_bytes * wide.halo_cost, rel=1e-6)


def test_an_image_without_pixels_has_a_plan_without_blocks():
    made = plan(node("mean", source((0, 100), (1, 10))), (1, 10))
    assert made.blocks == 0
    assert made.written_bytes == 0


def spec(shape, spatial=None, leading=(), axes=None):
    axes = axes or tuple("tczyx"[5 - len(shape) :])
    spatial = tuple(range(len(shape))) if spatial is None else spatial
    return ImageSpec(shape, np.dtype("float32"), axes, spatial, leading)


@pytest.mark.parametrize("chunks", [(1024, 1024), (512, 2048), (64, 4096), (100, 77), (4096, 4096)])
def test_chunks_fit_for_work_are_kept(chunks):
    image = spec((8192, 8192))
    assert default_chunks(image, image, chunks) == (chunks, None)


@pytest.mark.parametrize("chunks", [(1, 8192), (16, 8192), (8192, 1), (8192, 8192), (8192, 4096)])
def test_strips_and_huge_chunks_are_not_kept_and_the_plan_says_so(chunks):
    image = spec((8192, 8192))
    fresh, note = default_chunks(image, image, chunks)
    assert fresh == (1024, 1024)
    assert f"{chunks[0]} x {chunks[1]}" in note
    assert "1024 x 1024" in note


def test_a_small_image_in_one_chunk_is_left_so():
    image = spec((50, 3000))
    assert default_chunks(image, image, (50, 3000)) == ((50, 3000), None)


def test_chunks_are_matched_by_the_names_of_axes():
    stack = spec((5, 4096, 4096), (1, 2), axes=("c", "y", "x"))
    bank = spec((5, 6, 4096, 4096), (2, 3), (1,), axes=("c", "orientation", "y", "x"))
    assert default_chunks(bank, stack, (1, 512, 256)) == ((1, 1, 512, 256), None)
    plane = spec((4096, 4096), axes=("y", "x"))
    assert default_chunks(plane, stack, (1, 512, 256)) == ((512, 256), None)


def test_chunks_without_any_to_go_by():
    assert default_chunks(spec((8192, 100)), None, None) == ((1024, 100), None)
    fresh, note = default_chunks(spec((9, 300, 300, 300), (1, 2, 3)), None, None)
    assert fresh == (1, 102, 102, 102)
    assert note is None


def test_chunks_are_never_larger_than_the_image_nor_zero():
    image = spec((0, 300))
    chunks, _ = default_chunks(image, image, (512, 512))
    assert chunks == (1, 300)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (GIB, "1.0 GiB"), (5000 << 40, "5000.0 TiB")],
)
def test_bytes_as_people_write_them(size, text):
    assert format_bytes(size) == text


def test_a_crop_behind_a_value_of_a_huge_image_fits_a_small_budget():
    huge = node("equalize_hist", source((200_000, 200_000), (1024, 1024), "uint16"))
    trial = crop(huge, {0: (5000, 6000), 1: (7000, 8000)})
    made = plan(trial, (512, 512))
    assert [len(step.grid) > 1000 for step in made.steps] == [True, False]
    assert made.peak < GIB
