"""Records with the embeddings that they have elsewhere, stored here: those of Chroma, LanceDB and pgvector. Imports
`errors`, `exporting`, `indexing` and `records`."""

import shlex
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from typing import Any, NamedTuple, Protocol

from ..errors import InvalidInput
from ..exporting import json_value
from ..indexing.given import check_models
from ..indexing.index import HasIndex
from ..indexing.writer import Progress
from ..records.rows import OnConflict
from ..records.store import RecordStore
from ..records.values import InsertReport

TEXT_NAMES = ("text", "document", "content", "page_content", "chunk", "body")
"""The fields that have a record's text, where none is named; the first that there is."""


class Batch(NamedTuple):
    records: list[dict[str, Any]]
    embeddings: list[Any]


Batches = Generator[Batch, None, None]


class Source(Protocol):
    """Where records come from: `name` is what the place calls them, `text` are the fields that are searched."""

    @property
    def name(self) -> str: ...

    @property
    def text(self) -> Sequence[str]: ...

    @property
    def count(self) -> int: ...

    def batches(self, size: int) -> Batches:
        """Reads the records, so many at a time."""


def import_records(
    search: HasIndex,
    source: Source,
    entity: str | None = None,
    *,
    on_conflict: OnConflict = "replace",
    tenant: object = None,
    batch_size: int = 500,
    is_model_named: bool = True,
    progress: Progress | None = None,
) -> InsertReport:
    """Store the records of a source with their embeddings, a batch a transaction; nothing is embedded. An entity that
    is missing is made, with the texts of the source searched; run again, it completes what was interrupted and leaves
    what is unchanged. `progress(done, total)` counts records. Raises ModelMismatch for vectors of another length than
    the index has."""
    store, name = RecordStore(search), entity or source.name
    report, done = InsertReport(), 0
    with closing(source.batches(batch_size)) as batches:
        for batch in batches:
            if not done:
                dimensions = next((len(vector) for vector in batch.embeddings if vector is not None), None)
                check_models(search.index, (), dimensions, is_named=is_model_named)
                declare(store, name, source, tenant)
            report += store.insert(
                name, batch.records, embeddings=batch.embeddings, on_conflict=on_conflict, create=False, tenant=tenant
            )
            done += len(batch.records)
            if progress:
                progress(done, source.count)
    return report


def declare(store: RecordStore, name: str, source: Source, tenant: object) -> None:
    """Make the entity where it is missing. Raises InvalidInput for one that searches none of the source's texts."""
    known = next((entity for entity in store.entities() if entity.name == name), None)
    if known is None:
        store.create_entity(name, search=list(source.text), tenant_field=None if tenant is None else "")
    elif not known.is_inferred and not set(known.searchable) & set(source.text):
        raise InvalidInput(
            f"the entity {name} is there already, and searches {', '.join(known.searchable)}, not "
            f"{', '.join(source.text)}. Name another (--entity), or let it search that: "
            f"`{shlex.join(['kameleon', 'entity', 'update', name, '--search', source.text[0]])}`"
        )


def record_of(id_: Any, fields: Mapping[str, Any]) -> dict[str, Any]:
    """A record of this key; a field that is not the key, and is called `id`, gets an underscore."""
    own = {"id_" if name == "id" else name: json_value(value) for name, value in fields.items()}
    return {"id": json_value(id_), **own}


def text_of(named: Sequence[str], fields: Sequence[str], texts: Sequence[str], place: str) -> list[str]:
    """The fields that are searched: those that are `named`, else the one of a usual name, else the only one of
    `texts`. Raises InvalidInput."""
    if missing := [name for name in named if name not in fields]:
        raise InvalidInput(f"{place} has no {missing[0]!r:.80}. It has: {', '.join(fields)}")
    usual = [name for name in TEXT_NAMES if name in fields]
    found = list(named) or usual[:1] or (list(texts) if len(texts) == 1 else [])
    if not found:
        raise InvalidInput(f"name the text that is searched, --text NAME: {place} has {', '.join(fields)}")
    return found


def one_of(named: str | None, found: Sequence[str], what: str, option: str, place: str) -> str:
    """The one that is named, or the only one that there is. Raises InvalidInput."""
    if named is not None and named in found:
        return named
    if named is None and len(found) == 1:
        return found[0]
    has = ", ".join(found) or "none"
    wrong = f"{place} has no {what} {named!r:.80}" if named is not None else f"name the {what}, {option}"
    raise InvalidInput(f"{wrong}: {place} has {has}")
