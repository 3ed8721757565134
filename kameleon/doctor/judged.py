"""Checks what the judgements that are kept with the index name. Imports `indexing`."""

from collections.abc import Iterator
from dataclasses import replace

from ..indexing.judgements import indexed, read_judgements
from .findings import Finding, Tally
from .scan import Scan


def unknown(scan: Scan) -> Iterator[Finding]:
    """Judged records that are not in the index, of those that this role may see."""
    with scan.snapshot() as connection:
        refs = sorted({one.ref for one in read_judgements(scan.index, connection, scan.tenants)})
        there = indexed(scan.index, connection, refs)
    tally = Tally()
    tally.add(ref for ref in refs if ref not in there)
    message = "judged records that are not in the index, which `kameleon eval` counts as not found"
    for finding in tally.findings(
        "unknown-judged", message, "`kameleon judgements remove QUERY` where they are gone for good"
    ):
        yield replace(finding, severity="note")
