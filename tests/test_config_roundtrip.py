"""The graph and its file are the same thing: what is written is read back, pixel for pixel."""

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

import chunkfilt as cf
from chunkfilt.documents import parse_yaml
from chunkfilt.engine.graph import Source
from chunkfilt.errors import InputError

SHAPE = (2, 13, 17)


@pytest.fixture(scope="module")
def stack(tmp_path_factory, make_store, make_pixels):
    path = tmp_path_factory.mktemp("stack") / "in.zarr"
    return make_store(path, make_pixels(SHAPE), chunks=(1, 6, 8), dims="cyx")


PER_AXIS = st.integers(1, 5) | st.lists(st.integers(1, 5), min_size=2, max_size=2)
MODES = st.sampled_from(["reflect", "mirror", "nearest", "constant", "wrap"])
CUT = st.tuples(st.integers(0, 3), st.integers(0, 3))
ONE = st.one_of(
    st.tuples(st.sampled_from(["mean", "maximum", "median", "variance"]),
              st.fixed_dictionaries({"size": PER_AXIS}, optional={"mode": MODES})),
    st.tuples(st.just("gaussian"), st.fixed_dictionaries(
        {"sigma": st.floats(0, 1.5) | st.lists(st.floats(0.25, 1.5), min_size=2, max_size=2)},
        optional={"mode": MODES, "dtype": st.sampled_from(["float32", "float64", "uint8"])})),
    st.tuples(st.just("median"), st.fixed_dictionaries(
        {"footprint": st.sampled_from([{"disk": 2}, [[0, 1], [1, 1]], [[True, False, True]]])})),
    st.tuples(st.just("abs"), st.just({})),
    st.tuples(st.just("clip"), st.fixed_dictionaries(
        {"min": st.floats(0, 9), "max": st.just(2e4)})),
    st.tuples(st.just("cast"), st.fixed_dictionaries(
        {"dtype": st.sampled_from(["float32", "int32"])})),
    st.tuples(st.just("equalize_hist"), st.sampled_from([{}, {"scope": "all"}])),
    st.tuples(st.just("crop"), st.fixed_dictionaries({}, optional={"y": CUT, "x": CUT})),
)  # fmt: skip
STEPS = st.lists(st.tuples(ONE, st.integers(0, 9)), min_size=1, max_size=5)
JOINS = st.lists(st.tuples(st.sampled_from(["add", "subtract", "multiply", "divide"]),
                           st.integers(0, 9), st.integers(0, 9) | st.sampled_from([2, 0.5, 1e-3])),
                 max_size=3)  # fmt: skip


def cropped(image, box):
    sizes = dict(zip(image.axes, image.shape, strict=True))
    ranges = {a: (lo, sizes[a] - hi) for a, (lo, hi) in box.items() if lo + hi < sizes[a]}
    return image.crop(**ranges)


def grow(source, steps, joins):
    """Return images made by random chains, and by joining those of one shape."""
    made = [source]
    for (name, params), at in steps:
        image = made[at % len(made)]
        made.append(
            cropped(image, params) if name == "crop" else getattr(cf, name)(image, **params)
        )
    for name, a, b in joins:
        first = made[a % len(made)]
        second = made[b % len(made)] if isinstance(b, int) and b < 10 and b != 2 else b
        if isinstance(second, cf.Image) and second.shape != first.shape:
            continue
        made.append(getattr(cf, name)(first, second, dtype="float64"))
    return made[1:]


@settings(max_examples=40, deadline=None)
@given(STEPS, JOINS, st.integers(0, 99), st.booleans())
def test_random_graphs_are_read_back_pixel_for_pixel(stack, steps, joins, pick, group):
    images = grow(cf.open(stack), steps, joins)
    last = images[pick % len(images)]
    saved = {"a": last, "gaussian": images[-1]} if group and last is not images[-1] else last
    with tempfile.TemporaryDirectory() as folder:
        job = Path(folder) / "job.yaml"
        text = cf.to_yaml(saved, job)
        back = cf.from_yaml(job)
        assert isinstance(back, dict) is isinstance(saved, dict)
        pairs = (
            [(saved, back)]
            if back is not None and not isinstance(back, dict)
            else [(saved[name], back[name]) for name in saved]
        )
        for one, other in pairs:
            assert (one.shape, one.dtype, one.axes) == (other.shape, other.dtype, other.axes)
            with np.errstate(all="ignore"):
                np.testing.assert_array_equal(one[:], other[:])
        assert cf.to_yaml(back, Path(folder) / "again.yaml") == text


def test_checksums_are_the_same_from_python_and_from_the_file(stack, tmp_path):
    m = cf.open(stack)
    g = cf.gaussian(m.crop(y=(2, 13)), sigma=[1, 0.5], mode="mirror")
    outputs = {"g": g, "e": cf.equalize_hist(g), "z": cf.divide(g - cf.mean(g, size=5), 3)}
    direct = cf.save(outputs, tmp_path / "direct.zarr", progress=False)
    cf.to_yaml(outputs, tmp_path / "job.yaml", output="by_file.zarr")
    by_file = cf.run_yaml(tmp_path / "job.yaml", progress=False)
    assert by_file.path == tmp_path / "by_file.zarr"
    assert direct.checksums == by_file.checksums
    assert set(direct.checksums) == set(outputs)


def test_the_recorded_job_reproduces_the_output(stack, tmp_path):
    m = cf.open(stack)
    first = cf.save(cf.std(m, size=4) / 2, tmp_path / "a.zarr", progress=False)
    recorded = zarr.open_array(str(first.path)).attrs["chunkfilt"]["job"]
    recorded["output"]["path"] = str(tmp_path / "b.zarr")
    # Its paths are those of the folder that records the run.
    again = tmp_path / "a.zarr.run" / "again.yaml"
    again.write_text(json.dumps(recorded))
    again = cf.run_yaml(again, progress=False)
    assert list(first.checksums.values()) == list(again.checksums.values())


def test_a_footprint_too_long_for_a_job_is_run_but_not_written(stack, tmp_path, make_pixels):
    image = cf.maximum(cf.open(stack), footprint=make_pixels((210, 210), "bool"))
    with pytest.raises(InputError, match="too long to be read again"):
        cf.to_yaml(image)
    assert cf.open(image.save(tmp_path / "out.zarr", progress=False).path).shape == image.shape


def load(images, tmp_path):
    cf.to_yaml(images, tmp_path / "job.yaml")
    return cf.from_yaml(tmp_path / "job.yaml")


def test_a_value_between_two_steps(stack, tmp_path):
    g = cf.gaussian(cf.open(stack), sigma=1)
    saved = {"stats": cf.statistics(g), "v": cf.variance(g, size=3)}
    back = load(saved, tmp_path)
    np.testing.assert_array_equal(back["v"][:], saved["v"][:])
    assert list(back) == ["stats", "v"]


def test_a_value_alone(stack, tmp_path):
    back = load(cf.statistics(cf.open(stack)), tmp_path)
    assert back["statistics"].compute().pixels.tolist() == [13 * 17] * 2


def test_the_input_itself(stack, tmp_path):
    m = cf.open(stack)
    np.testing.assert_array_equal(load(m, tmp_path)[:], m[:])


def test_one_image_under_two_names(stack, tmp_path):
    g = cf.abs(cf.open(stack))
    assert list(load({"a": g, "b": g}, tmp_path)) == ["a", "b"]


@pytest.mark.parametrize("name", ["source", "gaussian", "mean_2", "crop", "my mean", "größe"])
def test_any_name_that_save_takes(stack, tmp_path, name):
    m = cf.open(stack)
    saved = {name: cf.mean(cf.mean(cf.gaussian(m), size=3), size=3)}
    try:
        cf.to_yaml(saved)
    except InputError:
        with pytest.raises(InputError):  # then saving must refuse it too
            cf.plan(saved)
        return
    back = load(saved, tmp_path)
    assert list(back) == [name]
    np.testing.assert_array_equal(back[name][:], saved[name][:])


def test_chosen_axes_and_a_member_of_a_group(make_store, make_pixels, tmp_path):
    zarr.create_group(str(tmp_path / "g.zarr"))
    make_store(tmp_path / "g.zarr" / "a", make_pixels((3, 9, 9)))
    make_store(tmp_path / "g.zarr" / "b", make_pixels((3, 9, 9), seed=1))
    image = cf.maximum(cf.open(tmp_path / "g.zarr", "b", axes="tyx", spatial="yx"), size=3)
    back = load(image, tmp_path)
    assert back.axes == ("t", "y", "x")
    np.testing.assert_array_equal(back[:], image[:])


def test_paths_are_relative_to_the_file(stack, tmp_path, monkeypatch):
    (tmp_path / "sub").mkdir()
    data = zarr.open_array(str(stack))[:]
    zarr.create_array(str(tmp_path / "sub" / "in.zarr"), data=data, chunks=(1, 8, 8))
    monkeypatch.chdir(tmp_path)
    text = cf.to_yaml(cf.mean(cf.open("sub/in.zarr")), tmp_path / "sub" / "job.yaml")
    assert parse_yaml(text.encode(), "t").data["input"] == "in.zarr"
    assert cf.from_yaml("sub/job.yaml").shape == SHAPE


def test_several_images(stack, tmp_path, make_store, make_pixels):
    other = make_store(tmp_path / "a mask.zarr", make_pixels(SHAPE))
    image, mask = cf.open(stack), cf.open(other)
    made = {
        "m": cf.equalize_hist(image, mask),
        # Opened otherwise, it is another image.
        "s": cf.add(cf.open(other), cf.open(other, nodata=7)),
    }
    text = cf.to_yaml(made, tmp_path / "job.yaml")
    data = parse_yaml(text.encode(), "t").data
    assert data["images"]["a_mask"] == "a mask.zarr"
    assert data["images"]["a_mask_2"]["nodata"] == 7
    again = cf.from_yaml(tmp_path / "job.yaml")
    for name, image in made.items():
        np.testing.assert_array_equal(again[name].compute(), image.compute())


def test_what_yaml_cannot_hold(stack):
    in_memory = cf.open(stack)
    in_memory.node = Source(in_memory.node.spec, None)
    with pytest.raises(InputError, match="images in memory: save them first"):
        cf.to_yaml(cf.mean(in_memory))

    @cf.image_filter(name="_unregistered")
    def doubled(block):
        return block * 2.0

    with pytest.raises(InputError, match="not registered"):
        cf.to_yaml(doubled(cf.open(stack)))
