"""What it would take to index a table: reads some of its rows, and writes nothing, not even where the database has no
tables of kameleon yet. Imports `content`, `errors`, `embeddings`, `indexing`, `orm`, `stores` and `values`."""

import shlex
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, func, select

from .content import Content
from .errors import InvalidRecord, SchemaMissing
from .indexing.embedded import flattened
from .indexing.index import Index
from .orm.identity import key_attributes
from .orm.mapping import Mapped, objects
from .orm.reflection.definition import TableDefinition
from .orm.reflection.making import checked
from .stores.catalog import active

if TYPE_CHECKING:
    from .embeddings.service import EmbeddingService
    from .values import Generation

ROWS_READ = 500
"""Bounds the rows that are read from each end of a table, by its key. Chosen, not measured."""
SAMPLES = 2
"""Bounds the records that are shown. Chosen, not measured."""
TEXTS_TIMED = 128
"""Bounds the texts that a local model embeds to be timed. Chosen, not measured."""
WRITTEN_PER_SECOND = 1800.0
"""Rows that are read and written a second, without the time of the model. Measured with 20,000 rows of 46 words in
SQLite."""


@dataclass(frozen=True, slots=True)
class TableSample:
    """A record as it will be: the text that is searched, of which keywords count `emphasis` once more."""

    id: str
    text: str
    emphasis: str
    tenant: str


@dataclass(frozen=True, slots=True)
class TablePlan:
    """What `add` would do. `rows` are those that meet the condition, of `rows_in_table`; `indexed` records the index
    has already. `key` are the columns that make a record's id. `tokens` are estimated from some rows, of those that are
    not embedded; `cost` is in the price's currency, None where no price is known; `seconds` None where the speed of the
    model is not known. `makes_tables` where the database has no tables of kameleon yet."""

    definition: TableDefinition
    key: tuple[str, ...]
    rows: int
    rows_in_table: int
    indexed: int
    samples: tuple[TableSample, ...]
    model: str | None
    is_costly: bool
    tokens: int
    cost: float | None
    rows_per_second: float | None
    seconds: float | None
    makes_tables: bool
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rows:
    """Some rows of a table: their contents by id, without rows that cannot be read, whose errors are `problems`."""

    contents: dict[str, Content]
    problems: tuple[str, ...]
    seconds: float

    @property
    def texts(self) -> list[str]:
        return [text for content in self.contents.values() if (text := content.embedded)]


def plan_table(
    index: Index,
    definition: TableDefinition,
    *,
    rate: float | None = None,
    price_per_million: float | None = None,
    is_embedded_again: bool = False,
) -> TablePlan:
    """`rate` in records a second; without one a local model embeds some of the texts. `is_embedded_again`: records that
    are indexed have other texts then. Raises InvalidInput for what cannot be searched."""
    generations = _generations(index)
    with index.reading() as connection:
        mapped = checked(connection, definition)
        total, rows = count_rows(connection, mapped)
        read = _read(connection, mapped)
        table: Any = mapped.mapper.local_table
        refusal = index.store.triggers.refusal(connection, table)
    indexed = 0 if generations is None else _indexed(index, definition.entity)
    service = index.services.of(generations or ())
    left = rows if is_embedded_again else max(0, rows - indexed)
    scale = left / len(read.contents) if read.contents else 0.0
    tokens = round(_tokens(service, read.texts) * scale) if service else 0
    provider = service.provider if service else None
    price = price_per_million if price_per_million is not None else provider.price_per_million if provider else None
    rate = rate or _rate(service, read)
    return TablePlan(
        definition,
        tuple(column.name for column in mapped.mapper.primary_key),
        rows=rows,
        rows_in_table=total,
        indexed=indexed,
        samples=tuple(_samples(read.contents)),
        model=provider.model_name if provider else None,
        is_costly=provider is not None and provider.is_costly,
        tokens=tokens,
        cost=None if price is None else tokens * price / 1e6,
        rows_per_second=rate,
        seconds=left / rate if rate else None,
        makes_tables=generations is None,
        warnings=tuple(_warnings(definition, read, rows, total, refusal)),
    )


# the table


def _generations(index: Index) -> "list[Generation] | None":
    """None where the database has no tables of kameleon."""
    try:
        return index.generations()
    except SchemaMissing:
        return None


def _indexed(index: Index, entity: str) -> int:
    """How many records of an entity have their embedding, or need none."""
    with index.reading() as connection:
        generation = active(index.catalog.generations(connection))
        found = index.store.embeddings.status(connection, generation, has_provider=generation is not None, tenants=None)
    return sum(status.indexed - status.pending - status.failed for status in found if status.entity == entity)


def count_rows(connection: Connection, mapped: Mapped) -> tuple[int, int]:
    """Counts the rows of the table, and those that meet its condition."""
    cls = mapped.mapper.class_
    rows = select(func.count()).select_from(cls)
    total = connection.scalar(rows) or 0
    return total, connection.scalar(mapped.meeting(rows)) or 0


def _read(connection: Connection, mapped: Mapped) -> Rows:
    """Reads rows from both ends of the table."""
    started = time.perf_counter()
    keys, rows = key_attributes(mapped.owner), mapped.rows()
    descending = rows.order_by(None).order_by(*(key.desc() for key in keys))
    contents: dict[str, Content] = {}
    problems: list[str] = []
    for statement in (rows, descending):
        for obj in objects(connection, statement.limit(ROWS_READ)):
            try:
                if (content := mapped.content_of(obj)) is not None:
                    contents[mapped.ref_of(obj).id] = content
            except InvalidRecord as error:
                problems.append(str(error))
    return Rows(contents, tuple(dict.fromkeys(problems)), time.perf_counter() - started)


def _samples(contents: dict[str, Content]) -> Iterator[TableSample]:
    """Those with a text first."""
    ordered = sorted(contents.items(), key=lambda item: not item[1].text)
    for id_, content in ordered[:SAMPLES]:
        yield TableSample(id_, content.text, content.emphasis, content.tenant)


def _warnings(definition: TableDefinition, read: Rows, rows: int, total: int, refusal: str) -> Iterator[str]:
    if refusal:
        command = f"`kameleon table refresh {shlex.quote(definition.entity)}`"
        yield f"{definition.table} {refusal}, so no triggers mark its rows. Index them again with {command}"
    if not rows:
        yield "no row meets the condition" if total else "the table has no rows"
    empty = sum(not content.text for content in read.contents.values())
    if empty:
        yield f"{empty:,} of {len(read.contents):,} rows that were read have no text"
    if read.problems:
        yield f"{len(read.problems):,} rows that were read cannot be indexed, such as: {read.problems[0]}"


# the model


def _tokens(service: "EmbeddingService", texts: Sequence[str]) -> int:
    """The tokens of some texts, those of passages for long ones."""
    return sum(map(service.provider.count_tokens, flattened(texts, service.split(texts))))


def _rate(service: "EmbeddingService | None", read: Rows) -> float | None:
    """Records a second: what a local model takes for some of the texts is measured. None for one that may cost money,
    and where there is nothing to embed."""
    if service is None:
        return WRITTEN_PER_SECOND
    texts = read.texts[:TEXTS_TIMED]
    if service.provider.is_costly or not texts:
        return None
    service.load()
    started = time.perf_counter()
    service.embed_batch(flattened(texts, service.split(texts)), on_error="collect")
    embedding = (time.perf_counter() - started) / len(texts)
    return 1 / (embedding + 1 / WRITTEN_PER_SECOND)
