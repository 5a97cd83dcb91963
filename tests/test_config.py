"""Jobs: what a YAML file stands for."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

import chunkfilt as cf
from chunkfilt.config import load_job
from chunkfilt.config_document import job_schema
from chunkfilt.config_parts import parse_bytes
from chunkfilt.errors import ConfigError, InputError
from chunkfilt.filters.filter import registered

HEAD = "version: 1\ninput: in.zarr\noutput: out.zarr\n"


@pytest.fixture
def build(make_job, mosaic):
    """Build a job given as text; `changes` as on the command line."""
    return lambda text, *changes: load_job(make_job(text), changes).build()


def test_defaults(build, tmp_path):
    built = build(HEAD + "steps: [mean]")
    assert built.path == tmp_path / "out.zarr"
    assert not built.group
    assert list(built.outputs) == ["mean"]
    assert built.options.scheduler == "threads"
    assert built.options.budget >= 2 << 30
    assert (built.options.workers, built.options.address) == (None, None)
    out = built.output
    assert (out.chunks, out.shards, out.compressor, out.overwrite) == (None, None, "input", False)
    assert built.outputs["mean"].params["size"] in (None, 3)


def test_names_are_the_filters_with_a_number_when_taken(build):
    steps = "steps: [mean, mean, {mean: {}, name: mean_3}, mean, crop: {y: [0, 9]}, crop: {}]"
    built = build(HEAD + steps)
    assert list(built.nodes) == [
        "source", "mean", "mean_2", "mean_3", "mean_4", "crop", "crop_2",
    ]  # fmt: skip


def test_inputs_by_default_by_name_and_by_number(build, mosaic):
    built = build(
        HEAD
        + """
steps:
  - gaussian: {sigma: 1}
    name: g
  - abs
  - subtract: {dtype: float64}
    input: [source, g]
  - add:
    input: [3, source]
  - multiply:
    input: [g, 0.5]
  - minimum: {size: 3}
    input: source
"""
    )
    nodes = built.nodes
    assert nodes["g"].inputs == (nodes["source"], None)
    assert nodes["abs"].inputs == (nodes["g"],)
    assert nodes["subtract"].inputs == (nodes["source"], nodes["g"])
    assert nodes["add"].inputs == (3, nodes["source"])
    assert nodes["multiply"].inputs == (nodes["g"], 0.5)
    assert nodes["minimum"].inputs == (nodes["source"], None)
    assert built.outputs == {"minimum": nodes["minimum"]}


def test_what_follows_a_value_takes_the_image_before_it(build):
    built = build(HEAD + "steps: [mean, statistics, abs]")
    assert built.nodes["statistics"].inputs[0] is built.nodes["mean"]
    assert built.nodes["abs"].inputs == (built.nodes["mean"],)


def test_no_steps_are_a_copy(build):
    built = build(HEAD + "steps: []")
    assert list(built.outputs) == ["source"]
    assert built.outputs["source"] is built.nodes["source"]


@pytest.mark.parametrize(
    ("save", "names", "group"),
    [
        ("null", ["abs"], False),
        ("mean", ["mean"], False),
        ("[mean]", ["mean"], True),
        ("[abs, mean]", ["abs", "mean"], True),
        ("source", ["source"], False),
        ("statistics", ["statistics"], True),
        ("[mean, statistics]", ["mean", "statistics"], True),
    ],
)
def test_what_is_saved(build, save, names, group):
    built = build(
        "version: 1\ninput: in.zarr\nsteps: [mean, statistics, abs]\n"
        f"output: {{path: o.zarr, save: {save}}}"
    )
    assert list(built.outputs) == names
    assert built.group is group


def test_region_select_and_axes(make_store, make_job, make_pixels, tmp_path):
    data = make_pixels((3, 20, 30))
    make_store(tmp_path / "in.zarr", data)
    job = make_job(
        """
        version: 1
        input: {path: in.zarr, axes: cyx, spatial: yx, region: {y: [4, 18], x: [0, -5]},
                select: {c: 2}}
        steps: [{maximum: {size: 3}}]
        output: out.zarr
        """
    )
    image = cf.from_yaml(job)
    assert (image.axes, image.shape) == (("y", "x"), (14, 25))
    expected = ndimage.maximum_filter(data[2, 4:18, :-5], 3)
    np.testing.assert_array_equal(image[:], expected)


def test_a_crop_step_after_and_before_a_filter(build, mosaic, make_pixels):
    data = make_pixels((40, 50))
    steps = "steps: [{maximum: {size: 5}, name: m}, {crop: {y: [3, 20], x: 7}, name: c}]"
    after = build(HEAD + steps).outputs["c"]
    np.testing.assert_array_equal(cf.Image(after)[:], ndimage.maximum_filter(data, 5)[3:20, 7])
    before = build(HEAD + "steps: [{crop: {y: [3, 20]}}, {maximum: {size: 5}}]").outputs["maximum"]
    np.testing.assert_array_equal(cf.Image(before)[:], ndimage.maximum_filter(data[3:20], 5))


def test_output_options(build):
    built = build(
        """
version: 1
input: in.zarr
steps: [mean]
output: {path: o/p.zarr, dtype: uint8, chunks: [8, 16], shards: [16, 32], compressor: {zstd: 5},
         overwrite: true}
run: {scheduler: serial, workers: 3, memory: 400 MB}
"""
    )
    out = built.output
    assert (out.chunks, out.shards, out.overwrite) == ((8, 16), (16, 32), True)
    assert out.compressor.level == 5
    assert built.outputs["mean"].spec.dtype == np.uint8
    assert (built.options.scheduler, built.options.workers) == ("serial", 3)
    assert built.options.memory == 400_000_000


@pytest.mark.parametrize(
    ("written", "kind", "level"),
    [("none", type(None), None), ("zstd", "ZstdCodec", 0), ("{gzip: 6}", "GzipCodec", 6),
     ("{blosc: 3}", "BloscCodec", 3), ("{blosc: {cname: lz4, clevel: 7}}", "BloscCodec", 7)],
)  # fmt: skip
def test_compressors(build, written, kind, level):
    text = "version: 1\ninput: in.zarr\nsteps: [mean]\noutput: {path: o, compressor: %s}"
    codec = build(text % written).output.compressor
    if level is None:
        assert codec is None
        return
    assert type(codec).__name__ == kind
    assert getattr(codec, "clevel", getattr(codec, "level", None)) == level


@pytest.mark.parametrize(
    ("text", "size"),
    [("2 GiB", 2 << 30), ("400 MB", 400_000_000), ("1.5GiB", 3 << 29), ("64kB", 64_000),
     ("512 KiB", 512 << 10), ("7", 7), ("1 TB", 10**12), (1 << 20, 1 << 20), ("9 B", 9)],
)  # fmt: skip
def test_sizes(text, size):
    assert parse_bytes(text) == size


@pytest.mark.parametrize(
    "text",
    [
        "",
        "GiB",
        "-2 GiB",
        "2 GiB/s",
        "two",
        0,
        -5,
        True,
        2.5,
        None,
        "0 GiB",
        "1e3",
        "2 XB",
        "9" * 400 + " GB",
        "1 iB",
    ],
)
def test_what_is_no_size(text):
    with pytest.raises(ValueError, match="must be a size such as '400 MB' or '2 GiB'"):
        parse_bytes(text)


STEPS = "steps: [{gaussian: {sigma: 1}}, equalize_hist, {mean: {size: [3, 5]}}]\n"


@pytest.mark.parametrize(
    ("changes", "ask", "answer"),
    [
        (["steps.0.gaussian.sigma=3"], lambda b: b.nodes["gaussian"].params["sigma"], 3),
        (["steps.2.mean.size.1=7"], lambda b: b.nodes["mean"].params["size"], (3, 7)),
        (["steps.2.mean.size=[9, 1]"], lambda b: b.nodes["mean"].params["size"], (9, 1)),
        (["steps.0.name=g", "output.save=g"], lambda b: list(b.outputs), ["g"]),
        (["run.memory=1 GiB"], lambda b: b.options.memory, 1 << 30),
        (["run.scheduler=serial", "run.workers=5"], lambda b: b.options.workers, 5),
        (["output.overwrite=true"], lambda b: b.output.overwrite, True),
        (["output.path=b=c.zarr"], lambda b: b.path.name, "b=c.zarr"),
        (["input.region.y=[0, 9]"], lambda b: b.outputs["mean"].spec.shape, (9, 50)),
        (["steps.1=minimum"], lambda b: b.nodes["minimum"].filter.name, "minimum"),
    ],
)
@pytest.mark.parametrize("short", [False, True])
def test_set_changes_the_job(build, changes, ask, answer, short):
    paths = "input: in.zarr\noutput: out.zarr\n"
    if not short:
        paths = "input: {path: in.zarr}\noutput: {path: out.zarr}\n"
    assert ask(build("version: 1\n" + paths + STEPS, *changes)) == answer


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("steps.0.gaussian.sigma", "PATH=VALUE"),
        ("=3", "PATH=VALUE"),
        ("steps.9.gaussian.sigma=3", "'9'"),
        ("steps.x.gaussian=3", "'x'"),
        ("steps.-1=mean", "'-1'"),
        ("version.x=3", "version"),
        ("steps.0.gaussian.sigma=[1", "--set steps.0.gaussian.sigma"),
        ("steps.0.gaussian.sigma=!x 3", "tags"),
        ("steps.0.gaussian.sigma=-1", "sigma must be >= 0"),
        ("steps.0.gaussian.sigm=1", "did you mean 'sigma'"),
        ("outptu.path=x", "did you mean 'output'"),
    ],
)
def test_set_that_does_not_fit(build, change, words):
    with pytest.raises(InputError) as caught:
        build(HEAD + STEPS, change)
    assert words in str(caught.value)


def test_parameters_of_both_spellings_are_one(build):
    block = build(HEAD + "steps:\n  - mean:\n      size: 5\n      mode: wrap\n")
    flow = build(HEAD + "steps: [{mean: {size: 5, mode: grid-wrap}}]")
    assert block.outputs["mean"].params == flow.outputs["mean"].params


def test_schema_covers_every_filter_and_parameter():
    schema = job_schema()
    json.dumps(schema, allow_nan=False)
    kinds = schema["properties"]["steps"]["items"]["oneOf"]
    bare = set(kinds[0]["enum"])
    written = {next(iter(k["required"])): k for k in kinds[1:]}
    assert bare == set(registered())
    assert set(written) == {*registered(), "crop"}
    for name, declared in registered().items():
        held = written[name]["properties"][name]
        assert set(held["properties"]) == set(declared.model.model_fields), name
        assert held["additionalProperties"] is False
        assert written[name]["additionalProperties"] is False


VALID = ["mean", {"mean": None}, {"mean": {"size": 5}}, {"mean": {"size": [3, 5]}, "name": "m"},
         {"gaussian": {"sigma": 1, "order": [0, 1], "mode": "grid-wrap"}, "input": "source"},
         {"median": {"footprint": {"disk": 2}}}, {"crop": {"y": [0, 3], "x": 4}},
         {"add": {}, "input": ["source", 3]}, {"statistics": {"percentiles": [1, 99.5]}},
         {"cast": {"dtype": "uint8"}}, {"abs": {"dtype": None}},
         {"median": {"footprint": [[0, 1], [1, 1]]}}, {"mean": {"axes": ["y", "x"]}},
         {"histogram": {"range": [0, 1], "nbins": 4}}]  # fmt: skip
WRONG = [
    "meen",
    {"mean": {"sizes": 5}},
    {"mean": {"size": 0}},
    {"mean": {"size": 2.5}},
    {},
    {"mean": {}, "median": {}},
    {"mean": {}, "nane": "x"},
    {"mean": 5},
    {"mean": {}, "name": 3},
    {"gaussian": {"sigma": "1"}},
    {"gaussian": {"sigma": [1, -1]}},
    {"mean": {"mode": "reflected"}},
    {"mean": {"size": True}},
    {"cast": {}},
    7,
]


def as_job(step):
    return {"version": 1, "input": "in.zarr", "steps": [step], "output": "out.zarr"}


def test_schema_and_loader_agree(make_job):
    jsonschema = pytest.importorskip("jsonschema")
    schema = job_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    for step in VALID:
        assert not list(validator.iter_errors(as_job(step))), step
        load_job(make_job(json.dumps(as_job(step))))
    for step in WRONG:
        assert list(validator.iter_errors(as_job(step))), step
        with pytest.raises(ConfigError):
            load_job(make_job(json.dumps(as_job(step))))


def repository_jobs():
    return sorted((Path(__file__).parents[1] / "config").glob("*.y*ml"))


@pytest.mark.parametrize("path", repository_jobs(), ids=lambda path: path.name)
def test_the_repositorys_own_jobs_are_valid(path):
    job = load_job(path)
    assert job.steps
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.validate(job.document.data, job_schema())
