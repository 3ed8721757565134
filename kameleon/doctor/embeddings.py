"""Checks of the embeddings: left over, damaged, pending, refused, or searched without their index. Imports the index
and the ORM's sync."""

from collections.abc import Callable, Iterator, Sequence
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


class EmbeddingChecks:
    def __init__(self, scan: Scan) -> None:
        self.scan = scan
        self.index = scan.index
        self.store = scan.store

    def damaged(self, generation: Generation) -> Iterator[Finding]:
        of = f"of generation {generation.number} ({generation.model_name})"
        for check, read, message, cure in (
            (
                "leftover",
                partial(self.store.health.leftovers, generation=generation),
                f"embeddings {of} whose record is not in the index",
                "`kameleon doctor --fix` deletes them",
            ),
            (
                "bad-vector",
                partial(self.store.health.bad_vectors, generation=generation),
                f"embeddings {of} that are not {generation.dimensions} numbers of length 1",
                "`kameleon doctor --fix` deletes them, and has the texts embedded anew",
            ),
        ):
            tally = Tally()
            for after, keys in self.scan.pages(read):
                tally.add(self._dropped(generation, read, after) if self.scan.fix and keys else self._named(keys))
            yield from tally.findings(check, message, cure, is_fixed=self.scan.fix)

    def _dropped(self, generation: Generation, read: Callable[..., tuple[Sequence[Key], Any]], after: Any) -> list[Ref]:
        """Read again in the transaction that deletes them."""

        def attempt() -> list[Ref]:
            with self.index.transaction() as connection:
                keys, _ = read(connection, after=after, limit=self.scan.batch_size)
                named = self.scan.refs(connection, keys)
                if keys:
                    self.store.embeddings.drop(connection, generation, keys)
                return named

        return self.index.retried(attempt)

    def _named(self, keys: Sequence[Key]) -> list[Ref]:
        with self.index.reading() as connection:
            return self.scan.refs(connection, keys)

    def missing(self) -> Iterator[Finding]:
        """Pending records, and those that the provider refused."""
        generation = self._own_generation()
        if generation is not None and generation not in self.scan.generations(with_table=True):
            return
        yield from self._pending(generation)
        failed = [one for one in syncing.status(self.index) if one.failed]
        ids = self._examples(generation, is_failed=True) if failed else {}
        message = "records whose text the provider refused; they are found by keyword"
        cure = "`kameleon embeddings status --failed` shows why, `kameleon embeddings sync --retry-failed`"
        for one in failed:
            yield Finding("failed", one.entity, one.failed, message, cure, "note", ids.get(one.entity, ()))

    def _pending(self, generation: Generation | None) -> Iterator[Finding]:
        status = [one for one in syncing.status(self.index) if one.pending]
        if not status:
            return
        ids = self._examples(generation, is_failed=False)
        left = self._synced() if self.scan.fix else status
        unfixed = {one.entity for one in left if one.pending}
        message = "records without an embedding of their content; they are found by keyword"
        for one in status:
            found = Finding("pending", one.entity, one.pending, message, "`kameleon embeddings sync`", "warning")
            yield replace(found, ids=ids.get(one.entity, ()), is_fixed=one.entity not in unfixed)

    def _synced(self) -> list[IndexStatus]:
        with suppress(ProviderError, VectorsUnavailable):  # what is left is reported as it was, with its cure
            syncing.sync(self.index, self.scan.batch_size)
        return syncing.status(self.index)

    def _examples(self, generation: Generation | None, *, is_failed: bool) -> dict[str, tuple[str, ...]]:
        """Of the first page alone: how many there are is counted elsewhere."""
        with self.index.reading() as connection:
            found, _ = self.store.embeddings.pending(
                connection, generation, after=None, limit=self.scan.batch_size, is_failed=is_failed
            )
        tally = Tally()
        tally.add(sorted(entry.ref for entry in found))
        return {entity: tuple(ids) for entity, ids in tally.ids.items()}

    def _own_generation(self) -> Generation | None:
        """The one that the engine's provider embeds for; where the index has none for it, the one that is searched."""
        generations = self.index.generations()
        provider = self.index.services.provider
        if provider is None or isinstance(provider, str):
            return current(generations)
        return self.index.services.reported(generations)

    def unused_index(self) -> Iterator[Finding]:
        generation = active(self.scan.generations(with_table=True))
        if generation is None or not (problem := self._problem(generation)):
            return
        is_fixed = self.scan.fix and self.index.index_vectors() and not self._problem(generation)
        cure = "`kameleon embeddings sync` builds it; where it is there: ANALYZE, and see enable_indexscan"
        yield Finding("unused-hnsw", "", 1, problem, cure, "warning", is_fixed=is_fixed)

    def _problem(self, generation: Generation) -> str:
        with self.index.reading() as connection:
            return self.store.health.unused_index(connection, generation)
