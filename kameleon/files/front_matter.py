"""Fields at the beginning of Markdown and text files: YAML between lines of `---`, or TOML between lines of `+++`.
Imports `errors`.

YAML is read by the rules of its version 1.2, and without merge keys, which can repeat others without end: `no`,
`12:30`, `007` and `2026-01-31` stay texts as they are written.
"""

import re
import tomllib
from collections.abc import Mapping
from datetime import date, time
from functools import cache
from typing import Any, ClassVar, NamedTuple

from ..errors import MissingExtra

BOUNDARIES = {"---": ("---", "..."), "+++": ("+++",)}
"""The line that opens front matter, and those that may close it."""
MAX_VALUES = 10_000
"""Bounds the values of one front matter, which YAML's aliases can repeat without end. Chosen, not measured."""
MAX_CHARACTERS = 1_000_000
"""Bounds the characters of one front matter: a file that opens one and never closes it, and texts that aliases repeat.
Chosen, not measured."""
LONG_KEY = re.compile(r"""(?<![\w"'-])(?:[\w"'-]+[ \t]*\.[ \t]*){200}""")
"""A dotted key of TOML that takes its parser a time of the square of its names: 200 take 1 ms."""
INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]*)$")
NUMBER = re.compile(r"[-+]?(?:0|[1-9][0-9]*)(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?$")


class BadFrontMatter(ValueError):
    """`line` is the one of the file on which it is wrong."""

    def __init__(self, line: int, what: str) -> None:
        super().__init__(what)
        self.line = line


class Split(NamedTuple):
    """The fields of a file, and the text below them, which begins on `line`."""

    fields: dict[str, Any]
    text: str
    line: int = 1


def split(text: str) -> Split:
    """A text without its front matter; as it is where there is none. Raises BadFrontMatter."""
    first, newline, rest = text.partition("\n")
    opening = first.rstrip()
    if opening not in BOUNDARIES or not newline:
        return Split({}, text)
    closings, end = BOUNDARIES[opening], 0
    for number, line in enumerate(rest[:MAX_CHARACTERS].split("\n"), 2):
        if line.rstrip() in closings:
            fields = read(opening, rest[:end])
            return Split({}, text) if fields is None else Split(fields, rest[end + len(line) + 1 :], number + 1)
        end += len(line) + 1
    return Split({}, text)


def read(opening: str, text: str) -> dict[str, Any] | None:
    """The fields; None for what has no names, such as a sentence between two horizontal rules."""
    try:
        found = read_yaml(text) if opening == "---" else read_toml(text)
        if found is None:
            return {}
        if not isinstance(found, Mapping):
            return None
        count = Counter()
        return {str(name): json_value(value, str(name), count) for name, value in found.items()}
    except RecursionError as error:
        raise BadFrontMatter(2, "front matter is nested too deep") from error


def read_toml(text: str) -> dict[str, Any]:
    if found := LONG_KEY.search(text):
        raise BadFrontMatter(text.count("\n", 0, found.start()) + 2, "front matter is nested too deep")
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"\(at line (\d+)", str(error))
        raise BadFrontMatter(int(found[1]) + 1 if found else 2, f"front matter is no TOML: {error}") from error


def read_yaml(text: str) -> Any:
    yaml, loader = yaml_loader()
    try:
        return yaml.load(text, Loader=loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        what = getattr(error, "problem", None) or str(error).splitlines()[0]
        place = "" if mark is None else f" at column {mark.column + 1}"
        raise BadFrontMatter(2 if mark is None else mark.line + 2, f"front matter is no YAML: {what}{place}") from error


@cache
def yaml_loader() -> tuple[Any, Any]:
    """PyYAML, and its safe loader by the rules of YAML 1.2."""
    try:
        import yaml
    except ImportError as error:
        raise MissingExtra("pyyaml", "files") from error

    class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
        yaml_implicit_resolvers: ClassVar[dict[Any, Any]] = {}

    for tag, pattern, first in (
        ("bool", re.compile(r"(?:true|True|TRUE|false|False|FALSE)$"), "tTfF"),
        ("int", INTEGER, "-+0123456789"),
        ("float", NUMBER, "-+0123456789"),
        ("null", re.compile(r"(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""]),
    ):
        Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", pattern, list(first))
    return yaml, Loader


class Counter:
    """Counts values, and the characters of texts. Raises BadFrontMatter for too many."""

    def __init__(self) -> None:
        self._values = self._characters = 0

    def add(self, value: Any) -> None:
        self._values += 1
        self._characters += len(value) if isinstance(value, str) else 0
        if self._values > MAX_VALUES:
            raise BadFrontMatter(2, f"front matter has over {MAX_VALUES:,} values")
        if self._characters > MAX_CHARACTERS:
            raise BadFrontMatter(2, f"front matter has over {MAX_CHARACTERS:,} characters")


def json_value(value: Any, place: str, count: Counter) -> Any:
    """A value of YAML or TOML as one of JSON: dates and times as texts. Raises BadFrontMatter."""
    count.add(value)
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {str(name): json_value(item, f"{place}.{name}", count) for name, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [json_value(item, place, count) for item in value]
    holds = "a record holds text, numbers, booleans, lists and objects"
    raise BadFrontMatter(2, f"{place:.80} is {type(value).__name__}: {holds}")
