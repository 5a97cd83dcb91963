"""YAML as plain data with the place of every part, safe to read from anyone.

Only mappings, sequences and scalars of YAML 1.2: tags, anchors, duplicate keys, nesting deeper than
a hundred levels and files too large to be read within a second are refused before any object is
made.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from chunkfilt.errors import ConfigError, InputError, StorageError
from chunkfilt.words import brief

__all__ = ["Document", "parse_yaml", "read_yaml", "too_long", "write_yaml"]

# Bytes, levels, and parts: a footprint of 200 x 200 pixels, all written out, just fits.
_LARGEST, _DEEPEST, _MOST_PARTS = 1 << 18, 100, 42_000
# Letters: enough for the list of all filters.
_LONGEST_MESSAGE = 1200
# The integers of the widest pixels there are.
_LOWEST_INTEGER, _HIGHEST_INTEGER = -(1 << 63), (1 << 64) - 1
# The core schema of YAML 1.2: `1e-3` is a number, `yes` is a string.
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf"), math.inf),
    "-.inf": -math.inf,
    ".nan": math.nan,
}


# What is written without quotes: it means itself wherever it stands.
_BARE = re.compile(r"(?:\.\.?/|[A-Za-z_/])[\w./+-]*(?: [\w/][\w./+-]*)*", re.ASCII)


@dataclass
class Document:
    """A YAML file's data, and the line and column (from 1) of every part by its path."""

    file: str
    data: Any
    places: dict[tuple[Any, ...], tuple[int, int]] = field(default_factory=dict)

    def error(self, message: str, *path: Any) -> ConfigError:
        """Return the error that something at `path` (or the nearest part above it) is wrong."""
        while path and path not in self.places:
            path = path[:-1]
        line, column = self.places.get(path, (1, 1))
        return ConfigError(brief(message, _LONGEST_MESSAGE), self.file, line, column)


def read_yaml(path: Path) -> Document:
    """Read a YAML file.

    Raises
    ------
    StorageError
        If there is no such file.
    ConfigError
        If it is not plain YAML; with line and column.
    """
    try:
        if not path.is_file():
            message = f"no such file: {brief(str(path))}"
            raise StorageError(message)
        with path.open("rb") as stream:
            raw = stream.read(_LARGEST + 1)
    except OSError as error:
        message = f"cannot read {brief(str(path))}: {error.strerror}"
        raise StorageError(message) from None
    return parse_yaml(raw, str(path))


def parse_yaml(raw: bytes, file: str) -> Document:
    """Parse the bytes of a YAML file; see `read_yaml`."""
    document = Document(file, None)
    if len(raw) > _LARGEST:
        message = f"the file is larger than {_LARGEST} bytes: a job has a few kilobytes"
        raise ConfigError(message, file)
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        message = f"not UTF-8: byte {raw[error.start]:#04x}"
        raise ConfigError(message, file, line) from None
    try:
        document.data = _Builder(document).build(YAML(typ="safe", pure=True).parse(text))
    except ConfigError:
        raise
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        message = f"not YAML: {brief(str(error.problem or error.context))}"
        raise ConfigError(message, file, line, column) from None
    except (YAMLError, ValueError, OverflowError) as error:
        message = f"not YAML: {brief(str(error))}"
        raise ConfigError(message, file) from None
    return document


def write_yaml(data: Any) -> str:
    """Return plain data as YAML text; the innermost lists and mappings on one line.

    Raises
    ------
    InputError
        If it holds an integer that `parse_yaml` would refuse.
    """
    yaml = YAML(typ="rt", pure=True)
    yaml.default_flow_style = None
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.width = 100
    out = io.StringIO()
    yaml.dump(_quoted(data), out)
    return out.getvalue()


def too_long(data: Any, text: str) -> bool:
    """Return whether plain data written as `text` are more than `parse_yaml` reads."""
    return len(text.encode()) > _LARGEST or _parts(data) > _MOST_PARTS


def _parts(data: Any) -> int:
    """Return how many mappings, sequences, keys and scalars there are."""
    if isinstance(data, dict):
        return 1 + len(data) + sum(map(_parts, data.values()))
    return 1 + sum(map(_parts, data)) if isinstance(data, (list, tuple)) else 1


def _quoted(data: Any) -> Any:
    """Return the data with quotes around every text that is not a plain word."""
    if isinstance(data, dict):
        return {_quoted(key): _quoted(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_quoted(one) for one in data]
    if isinstance(data, str) and (data in _WORDS or not _BARE.fullmatch(data)):
        return DoubleQuotedScalarString(data)
    if isinstance(data, int) and not _LOWEST_INTEGER <= data <= _HIGHEST_INTEGER:
        message = "integers in a job must be from -2**63 to 2**64 - 1"
        raise InputError(message)
    return data


class _Builder:
    """Turns parser events into data, one at a time, so that a bomb is met before it grows."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.depth = self.parts = 0

    def build(self, events: Iterator[Any]) -> Any:
        data = None
        for event in events:
            if isinstance(event, DocumentStartEvent) and self.document.places:
                raise self._refuse(event, "a second document: a job is one")
            if isinstance(event, (ScalarEvent, MappingStartEvent, SequenceStartEvent, AliasEvent)):
                data = self._value(event, events, ())
        return data

    def _value(self, event: Any, events: Iterator[Any], path: tuple[Any, ...]) -> Any:
        mark = event.start_mark
        self.document.places.setdefault(path, (mark.line + 1, mark.column + 1))
        self._count(event)
        if isinstance(event, AliasEvent) or event.anchor is not None:
            raise self._refuse(event, "anchors and aliases are not accepted: write it out")
        if event.tag is not None:
            raise self._refuse(event, f"tags are not accepted, got {brief(str(event.tag))}")
        if isinstance(event, ScalarEvent):
            return self._scalar(event)
        self.depth += 1
        if self.depth > _DEEPEST:
            raise self._refuse(event, f"nested deeper than {_DEEPEST} levels")
        if isinstance(event, MappingStartEvent):
            value: Any = self._mapping(events, path)
        else:
            value = self._sequence(events, path)
        self.depth -= 1
        return value

    def _mapping(self, events: Iterator[Any], path: tuple[Any, ...]) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        for event in events:
            if isinstance(event, MappingEndEvent):
                break
            key = self._scalar(event) if isinstance(event, ScalarEvent) else None
            if not isinstance(key, (str, int, float)) or event.anchor or event.tag:
                raise self._refuse(event, "keys must be plain words")
            if key in found:
                raise self._refuse(event, f"{brief(repr(key))} stands twice in one mapping")
            mark = event.start_mark
            self._count(event)
            self.document.places[(*path, key)] = (mark.line + 1, mark.column + 1)
            found[key] = self._value(next(events), events, (*path, key))
        return found

    def _sequence(self, events: Iterator[Any], path: tuple[Any, ...]) -> list[Any]:
        found: list[Any] = []
        for event in events:
            if isinstance(event, SequenceEndEvent):
                break
            found.append(self._value(event, events, (*path, len(found))))
        return found

    def _count(self, event: Any) -> None:
        self.parts += 1
        if self.parts > _MOST_PARTS:
            raise self._refuse(event, f"more than {_MOST_PARTS} parts: a job has a few dozen")

    def _scalar(self, event: ScalarEvent) -> Any:
        try:
            text = event.value if event.value.isascii() else _joined(event.value)
            return text if event.style is not None else _plain(text)
        except UnicodeDecodeError:
            message = "half of a surrogate pair stands for no character"
            raise self._refuse(event, message) from None
        except (OverflowError, ValueError):
            # Python itself refuses to read thousands of digits.
            message = (
                "numbers must be from -2**63 to 2**64 - 1, or floats of double precision, "
                f"got {brief(event.value)}"
            )
            raise self._refuse(event, message) from None

    def _refuse(self, event: Any, message: str) -> ConfigError:
        mark = event.start_mark
        return ConfigError(message, self.document.file, mark.line + 1, mark.column + 1)


def _joined(text: str) -> str:
    """Return a text with its surrogate pairs, as JSON writes an emoji, joined to characters."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le")


def _plain(text: str) -> Any:
    """Return what a text without quotes stands for."""
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        whole = int(text, 0) if text[:2] in ("0o", "0x") else int(text)
        if not _LOWEST_INTEGER <= whole <= _HIGHEST_INTEGER:
            raise OverflowError
        return whole
    if not _FLOAT.fullmatch(text):
        return text
    number = float(text)
    if math.isinf(number):
        raise OverflowError
    return number
