"""LangGraph: a store of long-term memory over a SearchEngine. Imports `errors` and `records`.

An item is a record: its `namespace`, each label with a period after it, `key`, `value`, the `text` of it that is
searched, the time of its last put, `updated_at`, and how many minutes, `ttl`, and until when, `expires_at`, it is kept.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from datetime import UTC, datetime, timedelta
from itertools import chain, takewhile
from typing import TYPE_CHECKING, Any, Self

from ..errors import InvalidInput, MissingExtra, UnknownEntity
from ..records import RecordStore
from ..records.values import Record
from .twins import Steps, Verb, twins, verb

try:
    from langgraph.store.base import (
        BaseStore,
        GetOp,
        IndexConfig,
        InvalidNamespaceError,
        Item,
        ListNamespacesOp,
        MatchCondition,
        Op,
        PutOp,
        Result,
        SearchItem,
        SearchOp,
        TTLConfig,
        ensure_embeddings,
        get_text_at_path,
    )

    from .langchain import search_engine
except ImportError as _error:
    raise MissingExtra("langgraph-checkpoint", "langgraph") from _error

Scored = tuple[Record, float | None]


class KameleonStore(BaseStore):
    """Items of an entity, which is made where it is missing. `search` is a SearchEngine or its `for_tenant`; or an
    SQLAlchemy engine, of which a SearchEngine is made that embeds by the `embed` of `index`.

    The `fields` of `index` are the paths of a value that are searched, all of it by default; an item is searched by
    all these texts as one. Its score is the cosine, None where it has no vector. `mode` and `options` are
    SearchOptions of searches with a query; without one items come in the order of their puts, the latest first.

    Items that have expired are not read. They are deleted by `sweep_ttl`, and by a put that is
    `sweep_interval_minutes` of `ttl` after the last time. The puts of a batch are one transaction, and what it deletes
    is another one.
    """

    supports_ttl = True
    if TYPE_CHECKING:

        async def abatch(self, ops: Iterable[Op]) -> list[Result]: ...
        async def asweep_ttl(self) -> int: ...

    def __init__(
        self,
        search: Any,
        entity: str = "memories",
        *,
        index: IndexConfig | None = None,
        ttl: TTLConfig | None = None,
        mode: str = "vector",
        **options: Any,
    ) -> None:
        given: Mapping[str, Any] = index or {}
        embedding = ensure_embeddings(given["embed"]) if "embed" in given else None
        name = getattr(given.get("embed"), "__qualname__", None)
        self.engine, self.entity, self.ttl_config = search_engine(search, embedding, name), entity, ttl
        self.records = RecordStore(self.engine)
        self.fields = given.get("fields") or ["$"]
        self._options, self._within = {"mode": mode, **options}, dict[str, Any]()
        self._swept = datetime.now(UTC)
        try:
            found = self.records.entity(entity)
        except UnknownEntity:
            types = {"namespace": "text", "updated_at": "text", "expires_at": "number"}
            found = self.records.create_entity(entity, search=["text"], fields=types, exist_ok=True)
        if not {"namespace", "text"} <= {field.name for field in found.fields}:
            raise InvalidInput(f"the entity {entity} is none of a KameleonStore: name another one")

    def in_session(self, session: Any) -> Self:
        """The store inside the transaction of a session, which commits nothing; of an AsyncSession for coroutines."""
        store = copy(self)
        store._within = {"session": session}
        return store

    @twins
    def sweep_ttl(self) -> Steps[int]:
        """Delete what has expired; how many items."""
        deleted: int = yield self._sweep()
        return deleted

    @twins
    def batch(self, ops: Iterable[Op]) -> Steps[list[Result]]:
        """What is read is as it was before the puts of the batch, of which the last one of a key counts."""
        ops, now = list(ops), datetime.now(UTC)
        ids = [id_of(op) for op in ops if isinstance(op, GetOp)]
        found = {record.id: record for record in ((yield self._verb("get_many", ids)) if ids else ())}
        read, results = defaultdict[float | None, set[str]](set), list[Result]()
        for op in ops:
            records = list[Scored]()
            if isinstance(op, GetOp):
                record = found.get(id_of(op))
                records = [(record, None)] if record and is_kept(record, now) else []
                results.append(as_item(record) if record and records else None)
            elif isinstance(op, SearchOp):
                records = yield from self._searched(op, now)
                results.append([as_item(record, SearchItem, score=score) for record, score in records])
            else:
                results.append((yield from self._namespaces(op, now)) if isinstance(op, ListNamespacesOp) else None)
            for record, _ in records if isinstance(op, GetOp | SearchOp) and op.refresh_ttl else []:
                read[record.data["ttl"]].add(record.id)
        for minutes, those in read.items():
            if minutes is not None:
                changes = {"expires_at": now.timestamp() + 60 * minutes}
                yield self._verb("update", where={"id": {"$in": sorted(those)}}, changes=changes)
        yield from self._put({id_of(op): op for op in ops if isinstance(op, PutOp)}, now)
        return results

    def _searched(self, op: SearchOp, now: datetime) -> Steps[list[Scored]]:
        where = {"$and": [kept(now), *below(op.namespace_prefix), *conditions("value", op.filter or {})]}
        ranked = self._options if op.query else {"sort": "-updated_at"}
        options = {
            "entity": self.entity,
            "where": where,
            "limit": op.limit,
            "offset": op.offset,
            **ranked,
            **self._within,
        }
        scores = {hit.id: hit.similarity for hit in (yield verb(self.engine, "search", op.query or "", **options))}
        records = (yield self._verb("get_many", list(scores))) if scores else []
        return [(record, scores[record.id]) for record in records]

    def _namespaces(self, op: ListNamespacesOp, now: datetime) -> Steps[list[tuple[str, ...]]]:
        wanted = op.match_conditions or ()
        prefixes = [takewhile("*".__ne__, each.path) for each in wanted if each.match_type == "prefix"]
        among = [kept(now), *chain.from_iterable(below(tuple(prefix)) for prefix in prefixes)]
        found, is_more = set[str](), True
        while is_more:
            where = {"$and": [*among, {"namespace": {"$nin": sorted(found)}}]}
            options = {"entity": self.entity, "where": where, "facets": ["namespace"], "limit": 1, **self._within}
            counts = (yield verb(self.engine, "search", **options)).facets["namespace"]
            found.update(counts)
            is_more = bool(counts)
        names = [tuple(name[:-1].split(".")) for name in found]
        cut = {name[: op.max_depth] for name in names if all(matches(name, each) for each in wanted)}
        return sorted(cut)[op.offset : op.offset + op.limit]

    def _put(self, puts: Mapping[str, PutOp], now: datetime) -> Steps[None]:
        if deleted := [key for key, op in puts.items() if op.value is None]:
            yield self._verb("delete", deleted)
        if written := [self._record(key, op, now) for key, op in puts.items() if op.value is not None]:
            yield self._verb("insert", written, on_conflict="replace")
        minutes = (self.ttl_config or {}).get("sweep_interval_minutes")
        if puts and minutes is not None and now - self._swept >= timedelta(minutes=minutes):
            yield self._sweep()

    def _record(self, id: str, op: PutOp, now: datetime) -> dict[str, Any]:
        paths = self.fields if op.index is None else op.index or ()
        return {
            "id": id,
            "namespace": path_of(op.namespace),
            "key": op.key,
            "value": dict(op.value or {}),
            "text": "\n".join(chain.from_iterable(get_text_at_path(op.value, path) for path in paths)),
            "updated_at": now.isoformat(timespec="microseconds"),
            "ttl": op.ttl,
            "expires_at": None if op.ttl is None else now.timestamp() + 60 * op.ttl,
        }

    def _sweep(self) -> Verb:
        self._swept = datetime.now(UTC)
        return self._verb("delete", where={"expires_at": {"$lte": self._swept.timestamp()}})

    def _verb(self, name: str, *args: Any, **options: Any) -> Verb:
        return verb(self.records, name, self.entity, *args, **options, **self._within)


def path_of(namespace: Sequence[str]) -> str:
    if any(not label or "." in label for label in namespace):
        raise InvalidNamespaceError(f"labels of a namespace are texts without periods, not {namespace!r:.200}")
    return "".join(f"{label}." for label in namespace)


def id_of(op: GetOp | PutOp) -> str:
    return f"{path_of(op.namespace)}.{op.key}"


def as_item(record: Record, cls: type[Item] = Item, **options: Any) -> Any:
    data = record.data
    updated = datetime.fromisoformat(data["updated_at"])  # the time of the put, before the record's
    times: dict[str, Any] = {"created_at": min(record.created_at, updated), "updated_at": updated}
    return cls(namespace=data["namespace"][:-1].split("."), key=data["key"], value=data["value"], **times, **options)


def is_kept(record: Record, now: datetime) -> bool:
    return record.data["expires_at"] is None or record.data["expires_at"] > now.timestamp()


def kept(now: datetime) -> dict[str, Any]:
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


def matches(namespace: tuple[str, ...], condition: MatchCondition) -> bool:
    path, most = condition.path, len(namespace)
    part = namespace[: len(path)] if condition.match_type == "prefix" else namespace[max(0, most - len(path)) :]
    return len(part) == len(path) and all(wanted in ("*", label) for label, wanted in zip(part, path, strict=True))
