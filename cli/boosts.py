"""`--boost`: boosts as the command line has them. Imports nothing of the command."""

import json
import re
from collections.abc import Iterable
from typing import Any

import click

BOOST = re.compile(
    r"(?P<field>.+?):(?:(?P<half>\d+(?:\.\d+)?)|(?P<half_life>\d+(?:\.\d+)?(?:w|d|h|min|s)))"
    r"(?::(?P<weight>\d+(?:\.\d+)?))?"
)
FORMS = (
    "--boost is FIELD:HALF[:WEIGHT] for a number, FIELD:HALF_LIFE[:WEIGHT] for a date or time (12h, 30d, 2w), or "
    "a JSON condition with a factor, such as '{\"in_stock\": true}:1.2'"
)
HELP = (
    "Raise by a number (orders:100[:WEIGHT]), by how recent a date or time is (created:30d[:WEIGHT]), or where a "
    "condition holds ('{\"in_stock\": true}:1.2'). Repeatable."
)

boost_option = click.option("--boost", "boosts", metavar="BOOST", multiple=True, help=HELP)


def read_boosts(texts: Iterable[str]) -> list[dict[str, Any]]:
    """The boosts as JSON. Raises UsageError for a text of no form."""
    return [_condition(text) if text.lstrip().startswith("{") else _field(text) for text in texts]


def _field(text: str) -> dict[str, Any]:
    found = BOOST.fullmatch(text)
    if found is None:
        raise click.UsageError(f"{FORMS}; got {text!r:.80}")
    given = {name: value for name, value in found.groupdict().items() if value is not None}
    return {name: float(value) if name in ("half", "weight") else value for name, value in given.items()}


def _condition(text: str) -> dict[str, Any]:
    text = text.strip()
    try:
        where, end = json.JSONDecoder().raw_decode(text)
        factor = float(text[end:].removeprefix(":") or "1.2") if text[end : end + 1] in ("", ":") else None
    except ValueError:
        factor = None
    if factor is None:
        raise click.UsageError(f"{FORMS}; got {text!r:.80}")
    return {"where": where, "factor": factor}
