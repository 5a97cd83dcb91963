"""Every filter and every public function says what it takes, and its example runs."""

import doctest
import inspect
import re
import shutil

import pytest

import chunkfilt as cf
from chunkfilt.filters import filter as filters

SECTIONS = ("Parameters", "Returns", "Raises", "Examples")
PLAIN = sorted(
    name for name, home in cf._HOMES.items() if not name[0].isupper() and home.startswith("chunk")
)
# A function that cannot fail has nothing to raise; a decorator's errors come later.
NO_RAISES = {"image_filter", "value_filter"}


def sections(text):
    """Return the parts of a numpydoc docstring by their headings."""
    parts = re.split(r"^([A-Z][A-Za-z ]+)\n-{3,}\n", text, flags=re.MULTILINE)
    return {"": parts[0], **dict(zip(parts[1::2], parts[2::2], strict=True))}


def described(section):
    """Return the names that a Parameters section describes."""
    heads = re.findall(r"^(\*{0,2}\w+(?:, \*{0,2}\w+)*)(?: :|$)", section, flags=re.MULTILINE)
    return [name.lstrip("*") for head in heads for name in head.split(", ")]


def check_sections(text, parameters, wanted):
    found = sections(text)
    summary = found[""].strip().splitlines()[0]
    assert summary.endswith("."), f"the first line is no sentence: {summary!r}"
    assert len(summary) <= 100
    for heading in wanted:
        assert found.get(heading, "").strip(), f"no section {heading}"
    order = [heading for heading in found if heading in SECTIONS]
    assert order == [heading for heading in SECTIONS if heading in order]
    names = described(found.get("Parameters", ""))
    assert names == list(parameters), "the parameters described are not those there are, in order"
    for line in text.splitlines():
        assert len(line) <= 100


def run_examples(name, folder, monkeypatch):
    text = inspect.getdoc(getattr(cf, name))
    monkeypatch.chdir(folder)
    monkeypatch.setattr(filters, "_REGISTRY", dict(filters._REGISTRY))
    test = doctest.DocTestParser().get_doctest(text, {name: getattr(cf, name)}, name, None, 0)
    assert test.examples, f"{name} has no example"
    told = []
    results = doctest.DocTestRunner().run(test, out=told.append)
    assert results.failed == 0, "".join(told)


def test_a_filter_is_described_in_full(declared):
    text = getattr(cf, declared.name).__doc__
    parameters = inspect.signature(getattr(cf, declared.name)).parameters
    check_sections(text, parameters, SECTIONS)


def test_a_filters_example_runs(declared, tmp_path, monkeypatch):
    run_examples(declared.name, tmp_path, monkeypatch)


def test_a_filters_defaults_are_told(declared):
    text = getattr(cf, declared.name).__doc__
    section = sections(text)["Parameters"]
    for name, field in declared.model.model_fields.items():
        if isinstance(field.default, (int, float, str)) and not field.is_required():
            head = next(
                line
                for line in section.splitlines()
                if re.match(rf"(\w+, )*{name}(, \w+)* :", line)
            )
            # A window's size of None means 3: told in words, and not here.
            assert f"default {field.default!r}" in head, f"{head!r} does not tell {field.default!r}"


@pytest.mark.parametrize("name", PLAIN)
def test_a_public_function_is_described_in_full(name):
    function = getattr(cf, name)
    wanted = [s for s in SECTIONS if s != "Raises" or name not in NO_RAISES]
    check_sections(inspect.getdoc(function), inspect.signature(function).parameters, wanted)


@pytest.mark.parametrize("name", PLAIN)
def test_a_public_functions_example_runs(name, docs_folder, tmp_path, monkeypatch):
    shutil.copytree(docs_folder, tmp_path / "docs", ignore=shutil.ignore_patterns("smooth*"))
    run_examples(name, tmp_path / "docs", monkeypatch)


@pytest.mark.parametrize("name", ["Image", "LazyValue"])
def test_a_public_class_and_its_methods_are_described(name):
    held = getattr(cf, name)
    assert inspect.getdoc(held)
    for key, member in vars(held).items():
        if not key.startswith("_") and (callable(member) or isinstance(member, property)):
            assert inspect.getdoc(member), f"{name}.{key}"


def test_the_public_names_are_all_there():
    assert cf.__all__ == sorted(cf.__all__)
    assert set(filters.registered()) & set(cf.__all__) >= {"mean", "gaussian", "equalize_hist"}
    for name in cf.__all__:
        assert getattr(cf, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'meen'"):
        _ = cf.meen
    assert set(cf.__all__) <= set(dir(cf))


def test_a_filters_docstring_says_its_result_dtype(declared):
    told = sections(getattr(cf, declared.name).__doc__)["Returns"]
    if declared.kind != "value":
        assert re.search(r"dtype|float32|float64", told)
