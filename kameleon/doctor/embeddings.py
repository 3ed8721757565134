"""Checks of the embeddings: left over, damaged, pending, refused, or searched without their index. Imports `values`,
`errors`, `stores` and `orm`."""

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

from ..errors import ProviderError, VectorsUnavailable
from ..orm import syncing
from ..stores.catalog import active, current
from ..stores.values import Key
from ..values import Generation, IndexStatus, Ref
from .findings import Finding, Tally
from .scan import Scan


def damaged(scan: Scan, generation: Generation) -> Iterator[Finding]:
    of = f"of generation {generation.number} ({generation.model_name})"
    for check, read, message, cure in (
        (
            "leftover",
            partial(scan.store.health.leftovers, generation=generation),
            f"embeddings {of} whose record is not in the index",
            "`kameleon doctor --fix` deletes them",
        ),
        (
            "bad-vector",
            partial(scan.store.health.bad_vectors, generation=generation),
            f"embeddings {of} that are not {generation.dimensions} numbers of length 1",
            "`kameleon doctor --fix` deletes them, and has the texts embedded again",
        ),
    ):
        tally = Tally()
        for after, keys in scan.pages(read):
            tally.add(_dropped(scan, generation, read, after) if scan.fix and keys else _named(scan, keys))
        yield from tally.findings(check, message, cure, is_fixed=scan.fix)


def _dropped(
    scan: Scan, generation: Generation, read: Callable[..., tuple[Sequence[Key], Any]], after: Any
) -> list[Ref]:
    """Read again in the transaction that deletes them."""

    def attempt() -> list[Ref]:
        with scan.index.transaction() as connection:
            keys, _ = read(connection, after=after, limit=scan.batch_size)
            named = scan.refs(connection, keys)
            if keys:
                scan.store.embeddings.drop(connection, generation, keys)
            return named

    return scan.index.retried(attempt)


def _named(scan: Scan, keys: Sequence[Key]) -> list[Ref]:
    with scan.index.reading() as connection:
        return scan.refs(connection, keys)


def missing(scan: Scan) -> Iterator[Finding]:
    """Pending records, and those that the provider refused."""
    generation = _own_generation(scan)
    if generation is not None and generation not in scan.generations(with_table=True):
        return
    status = syncing.status(scan.index, tenants=scan.tenants)
    if pending := [one for one in status if one.pending]:
        ids = _examples(scan, generation, is_failed=False)
        status = _synced(scan) if scan.fix else status
        outside = scan.index.services.is_given(scan.index.generations())
        cure = "give the vectors: insert(…, embeddings=[…])" if outside else "`kameleon embeddings sync`"
        yield from _pending(pending, ids, cure, unfixed={one.entity for one in status if one.pending})
    failed = [one for one in status if one.failed]
    ids = _examples(scan, generation, is_failed=True) if failed else {}
    message = "records whose text the provider refused; they are found by keyword"
    cure = "`kameleon embeddings status --failed` shows why, `kameleon embeddings sync --retry-failed`"
    for one in failed:
        yield Finding("failed", one.entity, one.failed, message, cure, "note", ids.get(one.entity, ()))


def _pending(
    pending: Sequence[IndexStatus], ids: Mapping[str, tuple[str, ...]], cure: str, unfixed: Set[str]
) -> Iterator[Finding]:
    message = "records without an embedding of their content; they are found by keyword"
    for one in pending:
        found = Finding("pending", one.entity, one.pending, message, cure, "warning")
        yield replace(found, ids=ids.get(one.entity, ()), is_fixed=one.entity not in unfixed)


def _synced(scan: Scan) -> list[IndexStatus]:
    with suppress(ProviderError, VectorsUnavailable):  # what is left is reported as it was, with its cure
        syncing.sync(scan.index, scan.batch_size, tenants=scan.tenants)
    return syncing.status(scan.index, tenants=scan.tenants)


def _examples(scan: Scan, generation: Generation | None, *, is_failed: bool) -> dict[str, tuple[str, ...]]:
    """Of the first page alone: how many there are is counted elsewhere."""
    with scan.index.reading() as connection:
        found, _ = scan.store.embeddings.pending(
            connection, generation, after=None, limit=scan.batch_size, is_failed=is_failed
        )
    tally = Tally()
    tally.add(sorted(entry.ref for entry in found if scan.examines(entry.ref)))
    return {entity: tuple(ids) for entity, ids in tally.ids.items()}


def _own_generation(scan: Scan) -> Generation | None:
    """The one that the engine's provider embeds for; where the index has none for it, the one that is searched."""
    generations, services = scan.index.generations(), scan.index.services
    return current(generations) if services.provider is None else services.reported(generations)


def unused_index(scan: Scan) -> Iterator[Finding]:
    generation = active(scan.generations(with_table=True))
    if generation is None or not (problem := _problem(scan, generation)):
        return
    is_fixed = scan.fix and scan.index.index_vectors() and not _problem(scan, generation)
    cure = "`kameleon embeddings sync` builds it; where it is there: ANALYZE, and see enable_indexscan"
    yield Finding("unused-hnsw", "", 1, problem, cure, "warning", is_fixed=is_fixed)


def _problem(scan: Scan, generation: Generation) -> str:
    with scan.index.reading() as connection:
        return scan.store.health.unused_index(connection, generation)
