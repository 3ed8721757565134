"""Runs `data insert`: items in, batches out, each one transaction; bad records are reported by line. Imports the record
store and `files`, and of this package what it reads and the pipeline."""

import json
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, TypeVar

import click

import kameleon
from kameleon.errors import InvalidRecord, KameleonError, RecordExists, StorageError, UnknownEntity
from kameleon.files import Item, LoadedFiles, ReadOptions
from kameleon.files.sources import Source

from .app import App, Interrupted, echo
from .detaching import without_database
from .reading import ARGUMENT, STDIN

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from kameleon.indexing.embedded import Ahead
    from kameleon.stores.catalog import Entity

T = TypeVar("T")

SHOWN = 5
"""Bounds the records that a question names. Chosen, not measured."""


class InputStopped(KameleonError):
    pass


@dataclass
class Insertion:
    """One run of `data insert`."""

    app: App
    records: "kameleon.RecordStore"
    entity: str
    sources: Sequence[Source]
    batch_size: int
    on_conflict: Literal["error", "replace", "ignore", "merge"] = "error"
    create: bool = True
    id_field: str = "id"
    tenant: str | None = None
    tenant_field: str | None = None
    embeddings: str | None = None
    is_atomic: bool = False
    skip_invalid: bool = False
    rejects: BinaryIO | None = None
    progress: Callable[[int], None] = lambda _stored: None
    report: Any = None
    rejected: int = 0
    ids_made: int = 0
    removed: int = 0
    loaded: LoadedFiles | None = None
    started: float = field(default_factory=time.perf_counter)
    _is_interrupted: bool = False
    _is_waiting: bool = False
    _is_taken: bool = False
    _next: tuple[str, int] | None = None

    def run(self, items: Iterable[Item]) -> None:
        """Insert everything, or raise InputStopped or Interrupted; what was stored before stays stored."""
        from kameleon.records.store import InsertReport

        self.report = InsertReport()
        with ExitStack() as stack:
            connection = stack.enter_context(self.records.search.index.transaction()) if self.is_atomic else None
            stack.enter_context(self._interruptible())
            try:
                for batch, ahead in self._waited_for(self._ahead(self._batches(items))):
                    self._store(batch, connection, ahead)
                    self.progress(self.stored)
                    if self._is_interrupted:
                        raise KeyboardInterrupt
            except KeyboardInterrupt:
                raise Interrupted(self._so_far("interrupted")) from None
            except StorageError as error:
                raise InputStopped(self._so_far(str(error))) from error

    def passing_over(self, options: ReadOptions) -> ReadOptions:
        """These options for documents: those that are stored as they are give no records, others replace theirs."""
        self.loaded = self.records.loading.known(self.entity, self.tenant, self.tenant_field)
        self.on_conflict = "replace" if self.on_conflict == "error" else self.on_conflict
        return replace(options, loaded=self.loaded)

    def with_types(self, options: ReadOptions) -> ReadOptions:
        """These options with the types of the entity's fields for columns of their names, and text for its key."""
        own = {self.id_field: "text"} | ({self.embeddings: "list"} if self.embeddings else {})
        return replace(options, default_types=self.records.loading.types(self.entity) | own)

    def remove_gone(self, *, is_wanted: bool, no_confirm: bool) -> None:
        """Delete the records of the folders whose file, or section of it, is gone, or note that they are there."""
        folders = {source.folder for source in self.sources if source.root is not None}
        gone = list(self.loaded.gone(folders)) if self.loaded is not None else []
        if not gone:
            return
        names = ", ".join(one.id for one in gone[:SHOWN]) + (", …" if len(gone) > SHOWN else "")
        what = f"{len(gone):,} of {self.entity} whose files or sections are gone ({names})"
        if not is_wanted or not (no_confirm or click.confirm(f"Delete {what}?", err=True)):
            echo(f"kept {what}{'' if is_wanted else ': --sync deletes them'}", err=True)
            return
        self.removed = self.records.loading.remove(self.entity, gone)

    @property
    def stored(self) -> int:
        return int(self.report.inserted + self.report.updated)

    @property
    def notes(self) -> list[str]:
        """What to do about records that were given an id, and about fields that searches do not read."""
        notes = []
        if self.ids_made:
            notes.append(
                f"{self.ids_made:,} records had no `id`, so each was given one: loading them again would store them a "
                "second time. --id-field NAME makes a field of theirs the id, by which --on-conflict goes."
            )
        for fields, what in (
            (self.report.unsearched, "are not searched"),
            (self.report.keyword_only, "are searched by keyword alone"),
        ):
            if fields:
                options = " ".join(f"--search {shlex.quote(name)}" for name in fields)
                command = f"kameleon entity update {shlex.quote(self.entity)} {options}"
                notes.append(f"Texts in {', '.join(fields)} {what}. To change that: {command}")
        return notes

    def summary(self) -> dict[str, Any]:
        seconds = time.perf_counter() - self.started
        index = self.report.index
        return {
            "entity": self.entity,
            **{name: getattr(self.report, name) for name in ("inserted", "updated", "skipped")},
            **{name: list(getattr(self.report, name)) for name in ("unsearched", "keyword_only")},
            "rejected": self.rejected,
            "ids_made": self.ids_made,
            "unchanged_files": self.loaded.unchanged if self.loaded is not None else 0,
            "removed": self.removed,
            **{name: getattr(index, name) for name in ("embedded", "reused", "unchanged", "failed", "pending")},
            "seconds": round(seconds, 2),
            "records_per_second": round(self.stored / seconds, 1) if seconds else 0.0,
        }

    def _ahead(self, batches: Iterator[list[Item]]) -> Iterator[tuple[list[Item], "Ahead | None"]]:
        """The batches in order, each with the embeddings of its texts where these are made while others are stored."""
        from .pipeline import prepared  # threads are slow to load: not for `--help`

        first = next(batches, None)
        if first is None:
            return
        count = 0 if self.is_atomic or self.embeddings else self.records.batches_ahead(self.batch_size)
        definition = self._definition(first) if count else None
        if definition is None:
            yield from ((batch, None) for batch in chain([first], batches))
            return

        def embed(batch: list[Item]) -> "Ahead | None":
            return self.records.embed_ahead(
                definition, good_data(batch), on_conflict=self.on_conflict, tenant=self.tenant, callers=count
            )

        yield from prepared(chain([first], batches), embed, count)

    def _definition(self, first: list[Item]) -> "Entity | None":
        """The entity as the first batch finds or makes it, None where it cannot."""
        try:
            return self.records.definition(
                self.entity, good_data(first), create=self.create, tenant=self.tenant, tenant_field=self.tenant_field
            )
        except (InvalidRecord, UnknownEntity):
            return None

    def _waited_for(self, found: Iterator[T]) -> Iterator[T]:
        rest = iter(found)
        while True:
            self._is_waiting = True
            one = next(rest, None)
            self._is_waiting = False
            if one is None:
                return
            yield one

    def _batches(self, items: Iterable[Item]) -> Iterator[list[Item]]:
        """Batches of `batch_size`; a bad item that will stop the run ends the last."""
        batch: list[Item] = []
        for item in items if self.id_field == "id" else (named_id(item, self.id_field) for item in items):
            batch.append(item)
            if item.error is not None and (item.is_fatal or not self.skip_invalid):
                break
            if len(batch) >= self.batch_size:
                yield batch
                batch = []
        if batch:
            yield batch

    def _store(self, items: list[Item], connection: "Connection | None", ahead: "Ahead | None") -> None:
        """Store the good records, then report the bad ones in their order; the first that stops the run raises
        InputStopped."""
        good = [item for item in items if item.error is None]
        while good:
            try:
                self._insert(good, connection, ahead)
                break
            except (InvalidRecord, RecordExists) as error:
                if error.position is None:
                    raise
                good[error.position].error = reason(error)
                self._is_taken = isinstance(error, RecordExists)
                self._insert(good[: error.position], connection, ahead)
                good = good[error.position + 1 :] if self.skip_invalid else []
        for item in items:
            if item.error is not None:
                self._report_bad(item)
        self._next = (items[-1].file, items[-1].place + 1)

    def _insert(self, items: list[Item], connection: "Connection | None", ahead: "Ahead | None") -> None:
        if items:
            records, given = self._split([item.data for item in items])
            self.report += self.records.insert(
                self.entity,
                records,
                embeddings=given,
                on_conflict=self.on_conflict,
                create=self.create,
                tenant=self.tenant,
                tenant_field=self.tenant_field,
                connection=connection,
                ahead=ahead,
            )
            self.ids_made += sum("id" not in item.data for item in items)

    def _split(self, records: list[Any]) -> tuple[list[Any], list[Any] | None]:
        """The records and their embeddings, None without --embeddings. Raises InvalidRecord and ModelMismatch."""
        if self.embeddings is None:
            return records, None
        from kameleon.files.vectors import split_embeddings
        from kameleon.indexing.given import check_models

        made = split_embeddings(records, self.embeddings)
        is_named = self.app.chosen is not None
        check_models(self.records.search.index, made.models, made.dimensions, is_named=is_named)
        return made.records, made.embeddings

    def _report_bad(self, item: Item) -> None:
        self._next = (item.file, item.place)
        place = f"{item.file}:{item.place}: {item.error}"
        if item.is_fatal or not self.skip_invalid:
            advice = (
                "" if self._is_taken else ". Correct it" if item.is_fatal else ". Correct it, or add --skip-invalid"
            )
            raise InputStopped(self._so_far(place + advice))
        self.rejected += 1
        echo(f"skipped {place}", err=True)
        if self.rejects is not None:
            self._reject(item, self.rejects)

    def _reject(self, item: Item, file: BinaryIO) -> None:
        if item.header and not file.tell():
            file.write(item.header.rstrip(b"\r\n") + b"\n")
        if item.rest is None:
            raw = item.raw or json.dumps(item.data, ensure_ascii=False, default=str).encode("utf-8", "replace")
            file.write(raw.rstrip(b"\n") + b"\n")
            return
        file.write(item.raw)
        with item.rest as rest:
            shutil.copyfileobj(rest, file)

    def _so_far(self, what: str) -> str:
        if self.is_atomic:
            return f"{what}. Nothing was stored (--atomic)"
        stored = f"{what}. Stored so far: {self.stored} records"
        file, place = self._next or (self.sources[0].name, 1)
        if file == ARGUMENT:
            return stored
        hint = " Set KAMELEON_URL to this database's URL." if self.app.is_hidden else ""
        start = f"{file}:{place}" if len(self.sources) > 1 else str(place)
        start = "" if self.loaded is not None else start  # what is stored is passed over
        command = continue_command(self.app.arguments, start, self._more, is_piped=file == STDIN)
        return f"{stored}.{hint} Continue with: {command}"

    @property
    def _more(self) -> list[str]:
        """Options without which the command would stop at the same record."""
        return ["--on-conflict", "ignore"] if self._is_taken and self.on_conflict == "error" else []

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """Ctrl-C ends the run after the batch that is being stored, or at once while waiting for the next or when
        pressed twice."""

        def interrupted(_signal: int, _frame: Any) -> None:
            self._is_interrupted = True
            signal.signal(signal.SIGINT, before)
            if self._is_waiting:
                raise KeyboardInterrupt

        before = signal.signal(signal.SIGINT, interrupted)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)


def good_data(items: Iterable[Item]) -> list[Any]:
    return [item.data for item in items if item.error is None]


def named_id(item: Item, field: str) -> Item:
    """The item with its record's key as `id`."""
    if item.error is not None:
        return item
    if field not in item.data:
        return replace(
            item, error=f"no {field!r:.80}, which --id-field names; it has {', '.join(item.data) or 'nothing':.80}"
        )
    if "id" in item.data:
        return replace(item, error=f"an `id` beside {field!r:.80}, which --id-field makes its id: leave one out")
    return replace(item, data={"id" if name == field else name: value for name, value in with_oid(item.data, field)})


def with_oid(data: Mapping[str, Any], field: str) -> Iterator[tuple[str, Any]]:
    """The record's fields; of MongoDB's {"$oid": "…"} as the key its text."""
    for name, value in data.items():
        is_oid = name == field and isinstance(value, Mapping) and list(value) == ["$oid"]
        yield name, value["$oid"] if is_oid else value


def reason(error: InvalidRecord | RecordExists) -> str:
    if isinstance(error, RecordExists):
        return f"{str(error).split(';')[0]}. Use --on-conflict replace, merge or ignore"
    return str(error)


def continue_command(arguments: Sequence[str], start: str, more: Sequence[str] = (), *, is_piped: bool) -> str:
    """This command again, with `more`, from the line `start` on; `arguments` name its database."""
    kept = []
    rest = iter(without_database(sys.argv[1:]))
    for argument in rest:
        if argument == "--from-line":
            next(rest, None)
        elif not argument.startswith("--from-line="):
            kept.append(argument)
    command = shlex.join(["kameleon", *arguments, *kept, *more, *(["--from-line", start] if start else [])])
    return f"{command} < INPUT" if is_piped else command
