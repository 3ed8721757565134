"""LangGraph: a store of long-term memory over a SearchEngine. Imports `errors` and `records`.

An item is a record: its `namespace`, each label with a period after it, `key`, `value`, the `text` of it that is
searched, the time of its last put, `updated_at`, and how many minutes, `ttl`, and until when, `expires_at`, it is kept.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import chain, takewhile
from typing import Any

from ..errors import InvalidInput, MissingExtra
from ..records import Record
from .adapting import MAX_LIMIT, Adapter, awaited

try:
    from langgraph.store import base
    from langgraph.store.base import GetOp, ListNamespacesOp, PutOp, SearchOp

    from .langchain_embeddings import search_engine
except ImportError as _error:
    raise MissingExtra("langgraph-checkpoint", "langgraph") from _error


class KameleonStore(Adapter, base.BaseStore):
    """Items of an entity, which is made where it is missing. `search` is a SearchEngine or its `for_tenant`; or an
    SQLAlchemy engine, of which a SearchEngine is made that embeds by the `embed` of `index`.

    The `fields` of `index` are the paths of a value that are searched, all of it by default; an item is searched by
    all these texts as one. Its score is the cosine, None where it has no vector. `options` are SearchOptions of
    searches with a query, which are by vector unless `mode` is another; without one items come in the order of their
    puts, the latest first.

    Items that have expired are not read. They are deleted by `sweep_ttl`, and by a put that is
    `sweep_interval_minutes` of `ttl` after the last time. The puts of a batch are one transaction, and what it deletes
    is another one.
    """

    supports_ttl = True

    def __init__(
        self,
        search: Any,
        entity: str = "memories",
        *,
        index: base.IndexConfig | None = None,
        ttl: base.TTLConfig | None = None,
        **options: Any,
    ) -> None:
        given: Mapping[str, Any] = index or {}
        embedding = base.ensure_embeddings(given["embed"]) if "embed" in given else None
        engine = search_engine(search, embedding, getattr(given.get("embed"), "__qualname__", None))
        self.fields, self.ttl_config = given.get("fields") or ["$"], ttl
        self._options, self._swept = {"mode": "vector", **options}, datetime.now(UTC)
        found = self._open(engine, entity, "text", {"namespace": "text", "updated_at": "text", "expires_at": "number"})
        if not any(field.name == "namespace" for field in found.fields):
            raise InvalidInput(f"the entity {entity} is of other records: it has no namespace. Name another entity")

    def batch(self, ops: Iterable[base.Op]) -> list[base.Result]:
        """What is read is as it was before the puts of the batch, of which the last one of a key counts."""
        ops, now = list(ops), datetime.now(UTC)
        ids = [id_of(op) for op in ops if isinstance(op, GetOp)]
        where = {"$and": [{"id": {"$in": ids}}, unexpired(now)]}
        kept = {record.id: record for record in (self._call("list", where=where, limit=MAX_LIMIT) if ids else [])}
        results = [self._result(op, kept, now) for op in ops]
        puts = {id_of(op): op for op in ops if isinstance(op, PutOp)}
        if deleted := [key for key, op in puts.items() if op.value is None]:
            self._call("delete", deleted)
        if written := [self._record(key, op, now) for key, op in puts.items() if op.value is not None]:
            self._call("insert", written, on_conflict="replace")
        minutes = (self.ttl_config or {}).get("sweep_interval_minutes")
        if puts and minutes is not None and now - self._swept >= timedelta(minutes=minutes):
            self.sweep_ttl()
        return results

    def sweep_ttl(self) -> int:
        """Delete what has expired; how many items."""
        self._swept = datetime.now(UTC)
        return int(self._call("delete", where={"expires_at": {"$lte": self._swept.timestamp()}}))

    abatch, asweep_ttl = awaited(batch), awaited(sweep_ttl)

    def _result(self, op: base.Op, kept: Mapping[str, Record], now: datetime) -> base.Result:
        if isinstance(op, GetOp):
            found = [kept[key] for key in (id_of(op),) if key in kept]
            self._refresh(op, found, now)
            return as_item(found[0]) if found else None
        if isinstance(op, SearchOp):
            scores = self._scores(op, now)
            found = self._call("get_many", list(scores))
            self._refresh(op, found, now)
            return [as_item(record, base.SearchItem, score=scores[record.id]) for record in found]
        return self._namespaces(op, now) if isinstance(op, ListNamespacesOp) else None

    def _scores(self, op: SearchOp, now: datetime) -> dict[str, float | None]:
        where = {"$and": [unexpired(now), *below(op.namespace_prefix), *conditions("value", op.filter or {})]}
        ranked = self._options if op.query else {"sort": "-updated_at"}
        hits = self._hits(op.query or "", where=where, limit=op.limit, offset=op.offset, **ranked)
        return {hit.id: hit.similarity for hit in hits}

    def _refresh(self, op: GetOp | SearchOp, records: Sequence[Record], now: datetime) -> None:
        for minutes in {record.data["ttl"] for record in records if op.refresh_ttl} - {None}:
            those = [record.id for record in records if record.data["ttl"] == minutes]
            self._call("update", where={"id": {"$in": those}}, changes={"expires_at": now.timestamp() + 60 * minutes})

    def _namespaces(self, op: ListNamespacesOp, now: datetime) -> list[tuple[str, ...]]:
        wanted = op.match_conditions or ()
        prefixes = [tuple(takewhile("*".__ne__, each.path)) for each in wanted if each.match_type == "prefix"]
        among = [unexpired(now), *chain.from_iterable(map(below, prefixes))]
        found, counts = set[str](), None
        while counts is None or counts:  # a search counts some of many values
            where = {"$and": [*among, {"namespace": {"$nin": sorted(found)}}]}
            counts = self._hits("", where=where, facets=["namespace"], limit=1).facets["namespace"]
            found.update(counts)
        names = [tuple(name[:-1].split(".")) for name in found]
        cut = {name[: op.max_depth] for name in names if all(matches(name, each) for each in wanted)}
        return sorted(cut)[op.offset : op.offset + op.limit]

    def _record(self, id: str, op: PutOp, now: datetime) -> dict[str, Any]:
        paths = self.fields if op.index is None else op.index or ()
        return {
            "id": id,
            "namespace": path_of(op.namespace),
            "key": op.key,
            "value": dict(op.value or {}),
            "text": "\n".join(chain.from_iterable(base.get_text_at_path(op.value, path) for path in paths)),
            "updated_at": now.isoformat(timespec="microseconds"),
            "ttl": op.ttl,
            "expires_at": None if op.ttl is None else now.timestamp() + 60 * op.ttl,
        }


def path_of(namespace: Sequence[str]) -> str:
    if any(not label or "." in label for label in namespace):
        raise base.InvalidNamespaceError(f"labels of a namespace are texts without periods, not {namespace!r:.200}")
    return "".join(f"{label}." for label in namespace)


def id_of(op: GetOp | PutOp) -> str:
    return f"{path_of(op.namespace)}.{op.key}"


def as_item(record: Record, cls: type[base.Item] = base.Item, **options: Any) -> Any:
    data, updated = record.data, datetime.fromisoformat(record.data["updated_at"])  # the put's, before the record's
    times: dict[str, Any] = {"created_at": min(record.created_at, updated), "updated_at": updated}
    return cls(namespace=data["namespace"][:-1].split("."), key=data["key"], value=data["value"], **times, **options)


def unexpired(now: datetime) -> dict[str, Any]:
    return {"$or": [{"expires_at": None}, {"expires_at": {"$gt": now.timestamp()}}]}


def below(namespace: Sequence[str]) -> list[dict[str, Any]]:
    return [{"namespace": {"$startswith": path_of(namespace)}}] if namespace else []


def conditions(path: str, given: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The filters of fields below a path: an object without operators holds for those that have its fields."""
    for name, value in given.items():
        if isinstance(value, Mapping) and not any(key.startswith("$") for key in value):
            yield from conditions(f"{path}.{name}", value)
        else:
            yield {f"{path}.{name}": value}


def matches(namespace: tuple[str, ...], condition: base.MatchCondition) -> bool:
    path = condition.path
    part = namespace[: len(path)] if condition.match_type == "prefix" else namespace[-len(path) :]
    return len(part) == len(path) and all(wanted in ("*", label) for label, wanted in zip(part, path, strict=True))
