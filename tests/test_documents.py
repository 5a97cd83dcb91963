"""The YAML reader: plain data with places, and nothing else, whoever wrote the file."""

import math
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from chunkfilt.documents import Document, parse_yaml, read_yaml, too_long, write_yaml
from chunkfilt.errors import ConfigError, InputError, StorageError

JOB = b"""version: 1
input: {path: mosaic.zarr, axes: "yx", region: {y: [0, 64]}}
steps:
  - gaussian: {sigma: [1.5, 2e0]}
    name: g
  - equalize_hist
  - subtract: {}
    input: [source, g]
output:
  path: out.zarr
  save: [g, subtract]
"""


def parse(text):
    return parse_yaml(text.encode(), "job.yaml").data


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1E+3", 1000.0),
        ("-.5", -0.5),
        ("5.", 5.0),
        ("+7", 7),
        ("007", 7),
        ("0o17", 15),
        ("0x1F", 31),
        (".inf", math.inf),
        ("-.inf", -math.inf),
        ("null", None),
        ("~", None),
        ("true", True),
        ("False", False),
        ("yes", "yes"),
        ("off", "off"),
        ("1_000", "1_000"),
        ("12:30:45", "12:30:45"),
        ("2001-01-01", "2001-01-01"),
        ("1e", "1e"),
        ("0o8", "0o8"),
        ("'12'", "12"),
        ('"1e-3"', "1e-3"),
        ('"true"', "true"),
        ("''", ""),
        ("'null'", "null"),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text, value):
    found = parse(f"a: {text}\n")["a"]
    assert found == value
    assert type(found) is type(value)


def test_nan_and_the_empty_value():
    assert math.isnan(parse("a: .nan")["a"])
    assert parse("a:\nb: 1") == {"a": None, "b": 1}
    assert parse("") is None
    assert parse("# only a remark\n") is None


def test_block_scalars_are_strings():
    assert parse("a: |\n  12\n  13\nb: >\n  5\n") == {"a": "12\n13\n", "b": "5\n"}


REFUSED = [
    ("a: 1\nb: !!python/object:os.system x\n", 2, 4, "tags"),
    ("a: 1\nb: !thing 3\n", 2, 4, "tags"),
    ("b: !!int 3\n", 1, 4, "tags"),
    ("a: !!map {b: 1}\n", 1, 4, "tags"),
    ("a:\n  - 1\n  - !x [1]\n", 3, 5, "tags"),
    ("a: &word 3\n", 1, 4, "anchors"),
    ("a: &word [1]\n", 1, 4, "anchors"),
    ("a: 1\nb: {c: *word}\n", 2, 8, "alias"),
    ("a: {x: 1}\nb:\n  <<: *a\n", 3, 7, "alias"),
    ("*a : 3\n", 1, 1, "keys"),
    ("&a b: 3\n", 1, 1, "keys"),
    ("!!str b: 3\n", 1, 1, "keys"),
    ("a: 1\nb: 2\na: 3\n", 3, 1, "'a'"),
    ("x:\n  - {k: 1, k: 1}\n", 2, 12, "'k'"),
    ("1: a\n1: b\n", 2, 1, "twice"),
    ("? [1, 2]\n: 3\n", 1, 3, "keys"),
    ("? {a: 1}\n: 3\n", 1, 3, "keys"),
    ("a: 1\n~: 3\n", 2, 1, "keys"),
    ("a: 1\n---\nb: 2\n", 2, 1, "second document"),
    ("--- 1\n...\n--- 2\n", 3, 1, "second document"),
    ("a:\n\t- 1\n", 2, 1, "not YAML"),
    ("a:\n  - 1\n\tb: 2\n", 3, 1, "not YAML"),
    ("a: [1, 2\nb: 3\n", 2, None, "not YAML"),
    ("a: 'open\n", 2, None, "not YAML"),
    ("a: b: c\n", 1, None, "not YAML"),
    ("a: @x\n", 1, 4, "not YAML"),
]


@pytest.mark.parametrize(("text", "line", "column", "words"), REFUSED)
def test_what_is_refused_and_where(text, line, column, words):
    with pytest.raises(ConfigError) as caught:
        parse(text)
    error = caught.value
    assert error.line == line
    assert column is None or error.column == column
    assert words in str(error)
    assert str(error).startswith(f"job.yaml:{error.line}:{error.column}: ")
    assert "\n" not in str(error)


def test_a_merge_key_never_merges():
    assert parse("a: {<<: {b: 1}, c: 2}\n") == {"a": {"<<": {"b": 1}, "c": 2}}


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ("{a: ", "}")])
def test_a_hundred_levels_and_not_one_more(opening, closing):
    def nested(n):
        return opening * n + "1" + closing * n

    value = parse(nested(100))
    for _ in range(100):
        value = value["a" if opening != "[" else 0]
    assert value == 1
    with pytest.raises(ConfigError, match="deeper than 100") as caught:
        parse(nested(101))
    assert (caught.value.line, caught.value.column) == (1, 100 * len(opening) + 1)


def test_a_footprint_of_200_pixels_a_side_and_not_much_more():
    fits = [[1] * 200] * 200
    assert parse(write_yaml({"a": fits})) == {"a": fits}
    rows = ",\n".join(f"[{', '.join('1' * 210)}]" for _ in range(210))
    with pytest.raises(ConfigError, match="more than 42000 parts") as caught:
        parse(f"a: [{rows}]")
    assert caught.value.line == 200
    large = {"a": [[1] * 210] * 210}
    assert too_long(large, write_yaml(large))
    assert not too_long({"a": fits}, write_yaml({"a": fits}))


def test_surrogate_pairs_are_joined_as_json_means_them():
    assert parse('a: "\\ud83d\\ude00"') == {"a": "\U0001f600"}


@pytest.mark.parametrize("text", ['a: "\\ud800"', 'a: {"\\udfff": 1}', '- "\\ude00\\ud83d"'])
def test_halves_of_surrogate_pairs_are_refused(text):
    with pytest.raises(ConfigError, match="surrogate"):
        parse(text)


def test_an_escape_beyond_unicode_is_refused():
    with pytest.raises(ConfigError, match="not YAML"):
        parse('a: "\\UFFFFFFFF"')


@pytest.mark.parametrize("text", ["[" * 200_000, "{a: " * 60_000, "- " * 100_000])
def test_bottomless_nesting_is_refused_without_a_crash(text):
    with pytest.raises(ConfigError, match=r"deeper than 100|not YAML"):
        parse(text)


def test_a_quarter_of_a_mebibyte_and_not_one_byte_more():
    fits = b"# " + b"x" * ((1 << 18) - 7) + b"\na: 1"
    assert len(fits) == 1 << 18
    assert parse_yaml(fits, "job.yaml").data == {"a": 1}
    with pytest.raises(ConfigError, match="larger than 262144 bytes"):
        parse_yaml(fits + b"\n", "job.yaml")


def test_a_large_file_is_not_read_whole(tmp_path):
    path = tmp_path / "large.yaml"
    with path.open("wb") as stream:
        stream.truncate(1 << 40)
    with pytest.raises(ConfigError, match="larger than"):
        read_yaml(path)


@pytest.mark.parametrize(
    ("raw", "line", "byte"),
    [(b"a: 1\nb: \xff\n", 2, "0xff"), (b"\xfe\xff\x00a", 1, "0xfe"), (b"a: \xc3(", 1, "0xc3")],
)
def test_not_utf_8(raw, line, byte):
    with pytest.raises(ConfigError, match=f"not UTF-8.*{byte}") as caught:
        parse_yaml(raw, "job.yaml")
    assert caught.value.line == line


def test_control_characters_are_refused():
    with pytest.raises(ConfigError):
        parse("a: \x00b")


@pytest.mark.parametrize("digits", [4000, 5000, 100_000])
def test_huge_numbers_are_numbers_or_an_error_in_their_line(digits):
    text = f"a: 1\nb: {'9' * digits}\n"
    try:
        assert parse(text)["b"] > 10**3999
    except ConfigError as error:
        assert error.line == 2  # noqa: PT017 - either way will do


@pytest.mark.parametrize(
    "number",
    [str(2**64), str(-(2**63) - 1), hex(2**64), oct(2**64), "0x" + "f" * 9000, "1" * 99999,
     "0" * 9999 + "1", "1e400", "-1e400", "9" * 400 + ".0"],
    ids=lambda number: f"{number[:4]}-{len(number)}",
)  # fmt: skip
@pytest.mark.parametrize("text", ["a: 1\nb: {}\n", "a: 1\n? {}\n: 2\n", "a:\n  - [1, {}]\n"])
def test_numbers_that_no_pixel_can_have_are_refused_in_their_place(number, text):
    with pytest.raises(ConfigError, match="numbers must be from") as caught:
        parse(text.format(number))
    assert (caught.value.line, caught.value.column) == (2, text.splitlines()[1].index("{") + 1)
    assert len(str(caught.value)) < 220


@pytest.mark.parametrize("number", [2**64 - 1, -(2**63), 1.7e308, 5e-324])
def test_numbers_at_the_ends(number):
    assert same(parse(f"a: {number!r}"), {"a": number})


@pytest.mark.parametrize("data", [{"a": 2**64}, {2**70: 1}, {"a": [{"b": -(10**5000)}]}])
def test_numbers_that_would_be_refused_are_not_written(data):
    with pytest.raises(InputError):
        write_yaml(data)


@pytest.mark.parametrize("text", ["{0}: 1\n{0}: 2", "a: !{0} 3", "a: *{0}", "a: @{0}", "%{0}"])
def test_messages_stay_short(text):
    with pytest.raises(ConfigError) as caught:
        parse(text.format("x" * 5000 if "{0}:" not in text else "x" * 900))
    assert len(str(caught.value)) < 220


@pytest.mark.parametrize("path", ["a" * 5000, "a\0b", "\udfff"])
def test_paths_that_no_file_can_have(path):
    with pytest.raises(StorageError) as caught:
        read_yaml(Path(path))
    assert len(str(caught.value)) < 220


def test_a_missing_file_and_a_folder(tmp_path):
    for path in (tmp_path / "no.yaml", tmp_path):
        with pytest.raises(StorageError, match="no such file"):
            read_yaml(path)


def test_places_of_every_part_and_the_nearest_one_above():
    document = parse_yaml(JOB, "j")
    assert document.places[("steps", 0, "gaussian", "sigma")] == (4, 16)
    assert document.places[("input", "region", "y")] == (2, 49)
    assert document.places[("output", "save", 1)] == (11, 13)

    def place(*path):
        error = document.error("wrong", *path)
        assert isinstance(error, ConfigError)
        return error.line, error.column

    assert place("steps", 0, "gaussian", "sigma") == (4, 16)
    assert place("steps", 0, "gaussian", "no such", "thing") == (4, 5)
    assert place("nowhere") == (1, 1)


def test_byte_order_mark_and_windows_line_ends():
    assert parse("a: 1\r\nb:\r\n  - x\r\n") == {"a": 1, "b": ["x"]}
    assert parse("﻿a: 1\n") == {"a": 1}


WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=12)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False),
    WORDS,
    st.sampled_from(
        ["1e-3", "yes", "null", "0x1F", "~", "", " ", "- a", "a: b", "#", ".inf", "\t"]
    ),
)
KEYS = st.from_regex(r"[A-Za-z_\u00c0-\u024f][\w.-]{0,8}", fullmatch=True)
PLAIN = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.from_regex(r"[a-z_]{1,8}", fullmatch=True), PLAIN, min_size=1))
@example({"a": 1e-07, "b": 1e22, "c": -0.0, "d": math.inf})
@example({"a": "a\nb", "b": "x  y", "c": " lead", "d": "trail ", "e": "'\""})
@example({"a": [[], {}, [[1, 2], [3]]], "b": {"c": {"d": [1, {"e": None}]}}})
@example({"a": "x" * 300, "b": "word " * 60})
@example({"a": True, "b": "true", "c": "1_0", "d": "0o17", "e": "1:2"})
def test_what_is_written_is_read_back(data):
    assert same(parse(write_yaml(data)), data)


@pytest.mark.parametrize("key", ["?0", ":0", "-1", "a b", "y:", "12", "1e-3", "#", "", "null", "?"])
def test_odd_axis_names_are_read_back_as_keys(key):
    data = {"crop": {key: [0, 4]}, "steps": [{"crop": {key: [0, 4]}}]}
    assert same(parse(write_yaml(data)), data)


def same(a, b):
    """Compare with types: 1, 1.0 and True are three things."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def check_fuzz(raw):
    try:
        assert isinstance(parse_yaml(raw, "fuzz"), Document)
    except InputError as error:
        assert str(error)  # noqa: PT017 - either way will do


@settings(max_examples=300, deadline=None)
@given(
    st.binary(max_size=80) | st.text("-:[]{}&*!|>'\"%@`?,# \n\tab01.", max_size=60).map(str.encode)
)
def test_noise_gives_a_document_or_an_input_error(raw):
    check_fuzz(raw)


@settings(max_examples=300, deadline=None)
@given(
    st.integers(0, len(JOB)),
    st.integers(0, 12),
    st.binary(max_size=6)
    | st.sampled_from([b"&a ", b"*a", b"!!x ", b"\t", b"? ", b"- ", b"%", b"<<: "]),
)
def test_a_mutated_job_gives_a_document_or_an_input_error(at, cut, added):
    check_fuzz(JOB[:at] + added + JOB[at + cut :])
