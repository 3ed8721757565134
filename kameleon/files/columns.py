"""Columns of CSV: their names, their types, and values made of texts. Imports `errors`."""

import json
import re
import shlex
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

from ..errors import InvalidInput, printable, seen

INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,14})")
"""Whole numbers that another program writes the same: no leading zeros, and so many digits as a float keeps."""
NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,14}|(0|[1-9][0-9]*)?\.[0-9]+)([eE][+-][0-9]{1,3})?")
DIGITS = 17
"""Bounds the digits of a number that was not declared: a float keeps no more."""
TRUE, FALSE = {"true", "t", "yes", "y", "1"}, {"false", "f", "no", "n", "0"}
BOOLEANS = {"true": True, "false": False}
Convert = Callable[[str], Any]


class NotOfType(ValueError):
    pass


def inferred_number(text: str) -> Any:
    """A number that is written as JSON writes it. Raises ValueError for "007", 16 digits and other texts."""
    text = text.strip()
    if INTEGER.fullmatch(text):
        return int(text)
    if NUMBER.fullmatch(text) and sum(map(str.isdigit, text)) <= DIGITS and isfinite(value := float(text)):
        return value
    raise NotOfType


def inferred_boolean(text: str) -> bool:
    """Raises KeyError."""
    return BOOLEANS[text.strip().lower()]


def integer(text: str) -> int:
    return int(text.replace("_", "x"))


def number(text: str) -> Any:
    try:
        return integer(text)
    except ValueError:
        value = float(text.replace("_", "x"))
    if not isfinite(value):
        raise NotOfType
    return value


def boolean(text: str) -> bool:
    value = text.strip().lower()
    if value in TRUE or value in FALSE:
        return value in TRUE
    raise NotOfType


def json_of(kind: type) -> Convert:
    def convert(text: str) -> Any:
        value = json.loads(text)
        if not isinstance(value, kind):
            raise NotOfType
        return value

    return convert


DECLARED: Mapping[str, Convert | None] = {
    "text": None,
    "datetime": None,
    "integer": integer,
    "number": number,
    "boolean": boolean,
    "list": json_of(list),
    "object": json_of(dict),
}
INFERRED: Mapping[str, Convert] = {"number": inferred_number, "boolean": inferred_boolean}
ARTICLE = {"integer": "an integer", "list": "a JSON list", "object": "a JSON object"}


@dataclass(frozen=True, slots=True)
class Column:
    """`convert` makes the values of its texts, None where these are the values. One that is `inferred` has the type
    that the values of a sample have."""

    name: str
    type: str = "text"
    convert: Convert | None = None
    inferred: bool = False

    def value(self, text: str) -> Any:
        """Raises NotOfType with what is wrong with a text."""
        try:
            return self.convert(text) if self.convert else text
        except (ValueError, KeyError, RecursionError):
            pass
        is_no = f"column {self.name}: {seen(text)} is not {ARTICLE.get(self.type, f'a {self.type}')}"
        null = f"--null {shlex.quote(printable(text[:40]))} makes it null"
        if self.inferred:
            raise NotOfType(f"{is_no} as those of the first rows are. --type {self.name}:text keeps texts, {null}")
        raise NotOfType(f"{is_no}, its type. {null}")


def check_types(types: Mapping[str, str], names: Collection[str]) -> None:
    """Raises InvalidInput for a type that is not known, or of a column that is not there."""
    for name, kind in types.items():
        if kind not in DECLARED and kind != "any":
            raise InvalidInput(f"unknown type {seen(kind)} of {name!r:.80}. Known: {', '.join(DECLARED)}")
        if name not in names:
            raise InvalidInput(f"no column {name!r:.80} for --type. There are: {', '.join(names)}")


def typed(
    names: Sequence[str],
    declared: Mapping[str, str],
    inferred: dict[str, str],
    sample: Iterable[Sequence[str]],
    nulls: Collection[str],
) -> list[Column]:
    """The columns with the types that are declared, else `inferred` before, else those that the sample's values have,
    which are added to these."""
    kept = [row for row in sample if len(row) == len(names)]
    columns = []
    for position, name in enumerate(names):
        kind = declared.get(name, "text" if name == "id" else "any")
        if kind != "any":
            columns.append(Column(name, kind, DECLARED[kind]))
            continue
        found = inferred.get(name)
        if found is None:
            values = [row[position] for row in kept if row[position] not in nulls]
            found = next((each for each, convert in INFERRED.items() if values and all_are(convert, values)), "text")
            if values:
                inferred[name] = found
        columns.append(Column(name, found, INFERRED.get(found), inferred=True))
    return columns


def all_are(convert: Convert, values: Iterable[str]) -> bool:
    try:
        for value in values:
            convert(value)
    except (ValueError, KeyError):
        return False
    return True


def header_names(row: Sequence[str]) -> tuple[list[str], str | None]:
    """The columns' names in a header, and what is wrong with them. A column without one is `column_3`."""
    names = [name.strip() or f"column_{number}" for number, name in enumerate(row, 1)]
    first = {name: position for position, name in reversed(list(enumerate(names)))}
    for position, name in enumerate(names):
        if first[name] < position:
            which = f"{first[name] + 1} and {position + 1}"
            free = ",".join(each if first[each] == at else f"{each}_{at + 1}" for at, each in enumerate(names))
            way = f"Name them yourself: --columns {shlex.quote(free)} --header"
            return names, f"two columns are called {seen(name)}, {which}. {way}"
    if names and INTEGER.fullmatch(names[0]):
        own = ",".join(f"column_{number}" for number in range(1, len(names) + 1))
        what = f"the first line holds the columns' names, and {seen(names[0])} is none"
        return names, f"{what}. Name those of a file without such a line: --columns {own}"
    return names, None
