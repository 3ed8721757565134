"""What an examination finds: values, and counts by entity. Imports `values`."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from ..values import Ref

EXAMPLES = 10
"""Bounds the ids that a finding names."""

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True, slots=True)
class Finding:
    """`count` cases of what the message describes, up to ten of them in `ids`, in order; of a tenant as tenant/id.
    `entity` is empty where it is not one entity's; the ids are then the database's own."""

    check: str
    entity: str
    count: int
    message: str
    cure: str
    severity: Severity = "error"
    ids: tuple[str, ...] = ()
    is_fixed: bool = False


def is_ok(findings: Iterable[Finding]) -> bool:
    return all(finding.severity != "error" or finding.is_fixed for finding in findings)


class Tally:
    """Counts by entity, with the first ids of each."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.ids: dict[str, list[str]] = {}

    def add(self, refs: Iterable[Ref]) -> None:
        for entity, id_, tenant in refs:
            self.counts[entity] = self.counts.get(entity, 0) + 1
            examples = self.ids.setdefault(entity, [])
            if len(examples) < EXAMPLES:
                examples.append(f"{tenant}/{id_}" if tenant else id_)

    def findings(self, check: str, message: str, cure: str, *, is_fixed: bool = False) -> Iterator[Finding]:
        for entity in sorted(self.counts):
            ids = tuple(self.ids[entity])
            yield Finding(check, entity, self.counts[entity], message, cure, ids=ids, is_fixed=is_fixed)
