"""Stores judgements: how relevant records are to a query. Imports `content`, `errors`, `stores` and `values`."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from math import isfinite
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, bindparam, func, select

from ..content import check_entity, check_id, check_tenant, normalize
from ..errors import InvalidInput, seen
from ..stores.tables import IDS_A_STATEMENT, parts, utc
from ..values import Ref, Tenants

if TYPE_CHECKING:
    from .index import Index

MAX_GAIN = 1e9
"""Bounds a gain, so that sums of them are finite. Chosen, not measured."""
MAX_QUERY_BYTES = 1_000
"""Bounds the UTF-8 of a judged query: with the tenant, the entity and the id it is a key, and PostgreSQL indexes 2,704
bytes at most."""
MAX_JUDGEMENTS = 100_000
"""Bounds the judgements of a tenant, and those without one, which an evaluation has in memory. Chosen, not measured."""

Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Judgement:
    """How relevant a record is to a query: `gain` is 0 for one that is not, and the higher the more relevant. The
    record need not be in the index. The times are those of the index's own."""

    query: str
    entity: str
    id: str
    gain: float = 1.0
    tenant: str = ""
    created_at: datetime | None = None
    updated_at: datetime | None = None

    @property
    def ref(self) -> Ref:
        return Ref(self.entity, self.id, self.tenant)

    @property
    def key(self) -> tuple[str, str, str]:
        """The key among those of a tenant."""
        return self.query, self.entity, self.id

    def as_document(self) -> dict[str, Any]:
        """As JSON: without the tenant where there is none."""
        document = {"query": self.query, "entity": self.entity, "id": self.id, "gain": self.gain}
        return document | ({"tenant": self.tenant} if self.tenant else {})

    def checked(self) -> "Judgement":
        """Raises InvalidInput for what cannot be kept."""
        names = check_entity(self.entity), check_id(self.id), check_gain(self.gain), check_tenant(self.tenant)
        return Judgement(check_query(self.query), *names, self.created_at, self.updated_at)


def check_query(query: object) -> str:
    """A query as it is kept: with single spaces between its words."""
    if not isinstance(query, str):
        raise InvalidInput(f"a query is text, not {seen(query)}")
    text = " ".join(normalize(query).split())
    if not text:
        raise InvalidInput("an empty query has no relevant records: give the words that were searched for")
    if (size := len(text.encode())) > MAX_QUERY_BYTES:
        raise InvalidInput(f"a judged query has {MAX_QUERY_BYTES:,} bytes at most, not {size:,}: {seen(text)}")
    return text


def check_gain(gain: object) -> float:
    if isinstance(gain, bool) or not isinstance(gain, int | float) or not isfinite(gain) or not 0 <= gain <= MAX_GAIN:
        raise InvalidInput(
            f"a gain is a number from 0, which is not relevant, to {MAX_GAIN:,.0f}, such as 1, not {seen(gain)}"
        )
    return float(gain)


def from_json(given: Mapping[str, Any]) -> Judgement:
    """A judgement as `as_document` gives it. Raises InvalidInput, TypeError and KeyError."""
    return Judgement(given["query"], given["entity"], given["id"], given["gain"], given.get("tenant", "")).checked()


def read_judgements(
    index: "Index",
    connection: Connection,
    tenants: Tenants,
    queries: Sequence[str] | None = None,
    entities: Sequence[str] = (),
) -> list[Judgement]:
    """Those of these tenants, of all for None, of some queries and entities if any are named, by tenant, query and
    record."""
    table = index.tables.judgements
    rows = table.select().order_by(*table.primary_key)
    if tenants is not None:
        rows = rows.where(table.c.tenant.in_(tenants))
    if queries is not None:
        rows = rows.where(table.c.query.in_(queries))
    if entities:
        rows = rows.where(table.c.entity_name.in_(entities))
    return [
        Judgement(row.query, row.entity_name, row.record_id, row.gain, row.tenant, utc(row.created_at), utc(updated))
        for row in connection.execute(rows)
        for updated in [row.updated_at]
    ]


def indexed(index: "Index", connection: Connection, refs: Sequence[Ref]) -> set[Ref]:
    """Those of the judged records that are in the index."""
    found = set[Ref]()
    for part in parts(refs, IDS_A_STATEMENT):
        found.update(index.store.contents.states(connection, part, None))
    return found


def write_judgements(
    index: "Index", connection: Connection, tenant: str, judgements: Iterable[Judgement]
) -> list[Judgement]:
    """Write a tenant's, each in place of that of the same query and record, of which the last counts; returns them in
    the order of their keys. Raises InvalidInput for too many."""
    index.store.connections.acquire_write_lock(connection)
    now, written = datetime.now(UTC), list[Judgement]()
    wanted = {one.key: replace(one, tenant=tenant, created_at=now, updated_at=now) for one in judgements}
    for part in parts([wanted[key] for key in sorted(wanted)], IDS_A_STATEMENT):
        queries = list(dict.fromkeys(one.query for one in part))
        kept = {one.key: one.created_at for one in read_judgements(index, connection, (tenant,), queries)}
        written += (made := [replace(one, created_at=kept.get(one.key, now)) for one in part])
        _replace(index, connection, [_row(one) for one in made if one.key in kept])
        if new := [_row(one) for one in made if one.key not in kept]:
            connection.execute(index.tables.judgements.insert(), new)
    _check_number(index, connection, tenant)
    return written


def _row(one: Judgement) -> dict[str, Any]:
    row = asdict(one)
    return {**row, "entity_name": row.pop("entity"), "record_id": row.pop("id")}


def _replace(index: "Index", connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    if not rows:
        return
    table = index.tables.judgements
    own = [column == bindparam(f"own_{column.name}") for column in table.primary_key]
    values: dict[str, Any] = {"gain": bindparam("own_gain"), "updated_at": bindparam("own_updated_at")}
    binds = [{f"own_{name}": value for name, value in row.items() if name != "created_at"} for row in rows]
    connection.execute(table.update().where(*own).values(values), binds)


def _check_number(index: "Index", connection: Connection, tenant: str) -> None:
    table = index.tables.judgements
    count = connection.scalar(select(func.count()).select_from(table).where(table.c.tenant == tenant)) or 0
    if count > MAX_JUDGEMENTS:
        raise InvalidInput(
            f"judgements are {MAX_JUDGEMENTS:,} at most for a tenant, and {MAX_JUDGEMENTS:,} without one: this makes "
            f"{count:,}. Evaluate more from files: --queries and --qrels of `kameleon eval`"
        )


def delete_judgements(
    index: "Index", connection: Connection, tenant: str, query: str, pairs: Sequence[Pair] | None
) -> int:
    """Delete a tenant's of a query, of these records alone if they are given; how many there were."""
    index.store.connections.acquire_write_lock(connection)
    table, count = index.tables.judgements, 0
    of_query = table.delete().where(table.c.tenant == tenant, table.c.query == query)
    if pairs is None:
        return connection.execute(of_query).rowcount
    for entity, id_ in sorted(pairs):
        own = of_query.where(table.c.entity_name == entity, table.c.record_id == id_)
        count += connection.execute(own).rowcount
    return count


def rename_entity(index: "Index", connection: Connection, name: str, new_name: str | None) -> None:
    """Rename an entity in all judgements, in place of those of records that were not there, or delete its own."""
    table = index.tables.judgements
    own = table.c.entity_name == name
    if new_name is None:
        connection.execute(table.delete().where(own))
        return
    other = table.alias()
    same = (other.c[column] == table.c[column] for column in ("tenant", "query", "record_id"))
    taken = select(1).where(other.c.entity_name == name, *same).exists()
    connection.execute(table.delete().where(table.c.entity_name == new_name, taken))
    connection.execute(table.update().where(own).values(entity_name=new_name))
