"""Dates and times in filters on stored records, whose JSON has none. Pure. Imports `errors`.

They are compared with texts in ISO 8601 as the moments that these are: `2026-01-31`, `2026-01-31T12:30Z`,
`2026-01-31 14:30:00.5+02:00`. Without a zone they are in UTC, and a date is its midnight. Both databases compare to the
millisecond, as SQLite keeps moments.
"""

import re
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple

from .errors import InvalidFilter, seen

DATE = "$date"
"""The one name of an object that is a date in JSON: {"$date": "2026-01-31"}."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DAY_MS = 86_400_000
TEXT = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:[0-5]\d(:[0-5]\d(\.\d+)?)?(Z|[+-](0\d|1[0-4]):[0-5]\d)?)?", re.ASCII)
LENGTH = len("2026-01-31")
"""The characters of a date without a time."""


class Moment(NamedTuple):
    """Milliseconds since 1970, in UTC."""

    ms: int


def moment_of(value: date) -> Moment:
    """Of a datetime, and of a date's midnight."""
    at = value if isinstance(value, datetime) else datetime(value.year, value.month, value.day)
    since = (at if at.tzinfo else at.replace(tzinfo=UTC)) - EPOCH
    return Moment((since + timedelta(microseconds=500)) // timedelta(milliseconds=1))


def read_moment(text: str) -> Moment | None:
    """Of a text as the databases take it for a date or a time; None for another."""
    try:
        return moment_of(datetime.fromisoformat(text)) if TEXT.fullmatch(text) else None
    except ValueError:
        return None


def instant_text(text: Any) -> Any:
    """The one text of an instant, in UTC to the millisecond. What is none, or beyond the years of `date` there, is as
    it is."""
    moment = read_moment(text) if isinstance(text, str) else None
    if moment is None or not is_in_years(moment):
        return text
    at = EPOCH + timedelta(milliseconds=moment.ms)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z").replace(".000Z", "Z")


def is_in_years(moment: Moment) -> bool:
    """Whether its day in UTC is of the years of `date`."""
    return day_of(moment.ms // DAY_MS) is not None


def day_of(number: int) -> date | None:
    """A day by its number since 1970; None beyond the years of `date`."""
    try:
        return EPOCH.date() + timedelta(days=number)
    except OverflowError:
        return None


def read_date(text: Any) -> date:
    """A date, or a datetime where the text has a time. Raises InvalidFilter."""
    try:
        return date.fromisoformat(text) if len(text) <= LENGTH else datetime.fromisoformat(text)
    except (TypeError, ValueError) as error:
        raise InvalidFilter(f"{DATE} takes a text such as 2026-01-31 or 2026-01-31T12:30Z, not {seen(text)}") from error
