"""Describes writes of the index to observers. Imports `telemetry` and `values`."""

from sqlalchemy import Connection

from ..telemetry import Operation, operation
from ..telemetry.measures import RECORDS, WRITE, batch, database
from ..values import IndexReport


def writing(connection: Connection, records: int) -> Operation:
    """A write of so many records, to be entered."""
    begun = operation()
    if begun.is_observed:
        begun.begin(WRITE, attributes={**database(connection), **batch(records)})
    return begun


def count_records(observed: Operation, report: IndexReport) -> None:
    if observed.is_observed:
        outcomes = ("indexed", "unchanged", "embedded", "reused", "failed", "pending")
        observed.count(RECORDS, {outcome: getattr(report, outcome) for outcome in outcomes})
