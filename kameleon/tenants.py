"""One tenant's records: `for_tenant`, and their deletion, export and import. Imports `values`, `errors`, `content`,
`analysis`, `stores`, `indexing`, `orm`, `records`, `synonyms`, `query_rules` and `judgements`."""

import gzip
import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial, wraps
from itertools import islice
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar

from sqlalchemy import Connection, Select

from .analysis.synonyms import read_rule
from .content import bound_tenant, check_entity, check_id, check_tenant, layout_as_text, layout_of_text, normalize
from .errors import InvalidInput, seen
from .indexing.entries import make_entry
from .indexing.index import HasIndex, Index
from .indexing.judgements import from_json, read_judgements
from .indexing.rules import as_json, read_rules, rule_from_json, write_rules
from .judgements import Judgements
from .orm.emphasis import emphases
from .query_rules import QueryRules
from .records.entities import record_entry
from .stores.catalog import Entity, as_definition, current, entity_of
from .stores.tables import IDS_A_STATEMENT, parts
from .stores.values import Embedding, Entry
from .synonyms import Synonyms
from .values import Failure, Generation, IndexReport, IndexStatus, Ref, SearchResults, TenantStatus

FORMAT = "kameleon tenant 1"
"""The first line of an export has it; a file with another is refused."""
MODEL = ("fingerprint", "model_name", "noise_mean", "noise_deviation")
"""What an export has of the model of its embeddings."""
RECORDS_A_BATCH = 1_000
"""Bounds the records of an import's transaction. Chosen, not measured."""
P = ParamSpec("P")
T = TypeVar("T")


class ForTenant:
    """The verbs of a SearchEngine that read and write, each with this tenant, and `synonyms`;
    `RecordStore(search.for_tenant("t1"))` is its part of the record store. None of them takes another tenant."""

    search: Callable[..., SearchResults]
    similar: Callable[..., SearchResults]
    suggest: Callable[..., list[str]]
    select: Callable[..., Select[Any]]
    get_status: Callable[..., list[IndexStatus]]
    failures: Callable[..., list[Failure]]
    sync: Callable[..., IndexReport]
    index_record: Callable[..., IndexReport]
    index_records_batch: Callable[..., IndexReport]
    delete_record: Callable[..., bool]
    delete_records: Callable[..., int]
    asearch: Callable[..., Coroutine[Any, Any, SearchResults]]
    asimilar: Callable[..., Coroutine[Any, Any, SearchResults]]
    asuggest: Callable[..., Coroutine[Any, Any, list[str]]]
    aselect: Callable[..., Coroutine[Any, Any, Select[Any]]]
    afailures: Callable[..., Coroutine[Any, Any, list[Failure]]]
    aindex_record: Callable[..., Coroutine[Any, Any, IndexReport]]
    aindex_records_batch: Callable[..., Coroutine[Any, Any, IndexReport]]
    adelete_record: Callable[..., Coroutine[Any, Any, bool]]
    adelete_records: Callable[..., Coroutine[Any, Any, int]]

    def __init__(self, engine: HasIndex, tenant: object) -> None:
        self.index: Final = engine.index
        self.tenant: Final = one_tenant(tenant)
        for verb in ForTenant.__annotations__:
            setattr(self, verb, bound(getattr(engine, verb), self.tenant))

    @property
    def rules(self) -> QueryRules:
        """The query rules of this tenant, which its searches take in place of those without a tenant."""
        return QueryRules(self.index, self.tenant)

    @property
    def judgements(self) -> Judgements:
        """How relevant records of this tenant are to queries."""
        return Judgements(self.index, self.tenant)

    @property
    def synonyms(self) -> Synonyms:
        """The rules of synonyms that hold for this tenant's searches, beside those without a tenant."""
        return Synonyms(self.index, self.tenant)

    def __repr__(self) -> str:
        return f"<the tenant {self.tenant!r}>"


def one_tenant(value: object) -> str:
    """A tenant as text. Raises InvalidInput where there is none."""
    tenant = check_tenant(value)
    if not tenant:
        raise InvalidInput(f"a tenant is needed here, not {seen(value)}: records without one are read without this")
    return tenant


def nothing_of(tenant: str) -> InvalidInput:
    return InvalidInput(
        f"the tenant {tenant!r:.80} has no records in this index. Name it as its records have it: `kameleon search "
        "WORD --all-tenants --json` shows whose the hits are"
    )


def bound(verb: Callable[P, T], tenant: str) -> Callable[P, T]:
    @wraps(verb)
    def call(*args: P.args, **options: P.kwargs) -> T:
        options["tenant"] = bound_tenant(tenant, options.get("tenant"))
        return verb(*args, **options)

    return call


def listed(index: Index, limit: int) -> list[TenantStatus]:
    """The tenants that have most records, those first."""
    if limit < 1:
        raise InvalidInput(f"limit is the number of tenants, 1 or more, not {seen(limit)}")
    with index.reading(tenants=()) as connection:
        return index.store.contents.tenants(connection, limit)


# deletion


def drop(index: Index, tenant: str) -> int:
    """Delete every trace of a tenant; how many records it had. Writers, folds and builds that began before are waited
    for, and those that begin meanwhile wait."""

    def attempt() -> int:
        with index.transaction() as connection:
            index.store.schema.stop_writers(connection)
            index.store.connections.act_for(connection, (tenant,))
            found = index.store.embeddings.status(connection, None, has_provider=False, tenants=(tenant,))
            index.store.schema.drop_tenant(connection, tenant, index.catalog.with_tables(connection))
            index.curation.note_change(connection)
        return sum(status.indexed for status in found)

    count = index.retried(attempt)
    index.forget()
    return count


# export


def export(index: Index, tenant: str, file: Path) -> int:
    """Write a tenant's records, their embeddings with them, to a file of compressed JSON lines; returns how many.
    Raises InvalidInput where it has none."""
    count = 0
    with index.reading(tenants=(tenant,)) as connection:
        generation = current(index.catalog.generations(connection))
        entities = index.catalog.entities(connection)
        if not (names := index.store.contents.entities(connection, (tenant,))):
            raise nothing_of(tenant)
        header = {
            "format": FORMAT,
            "tenant": tenant,
            "language": index.store.language,
            "model": generation and {name: getattr(generation, name) for name in MODEL},
            "entities": [{"name": name, **as_definition(entities[name])} for name in names if name in entities],
            "rules": [as_json(rule) for rule in read_rules(index, connection, (tenant,))],
            "judgements": [one.as_document() for one in read_judgements(index, connection, (tenant,))],
            "synonyms": Synonyms(index, tenant).list(connection=connection),
        }
        with gzip.open(file, "wt", encoding="utf-8") as lines:
            lines.write(json.dumps(header) + "\n")
            for line in _exported(index, connection, tenant, generation):
                lines.write(json.dumps(line, ensure_ascii=False) + "\n")
                count += 1
    return count


def _exported(
    index: Index, connection: Connection, tenant: str, generation: Generation | None
) -> Iterator[Mapping[str, Any]]:
    exports, after = index.store.exports, Ref("", "", tenant)
    while page := exports.records(connection, after, RECORDS_A_BATCH):
        refs = {stored.doc: stored.entry.ref for stored in page}
        hashes = {stored.entry.ref: stored.entry.content_hash for stored in page}
        embeddings: dict[Ref, list[Sequence[Any]]] = {}
        for each in exports.embeddings(connection, generation, refs) if generation else ():
            if each.content_hash == hashes[each.ref]:
                embeddings.setdefault(each.ref, []).append(_as_line(each))
        emphasized = emphases(index, connection, [stored.entry for stored in page if stored.data is None])
        for _, entry, data in page:
            of_content = {"content": entry.content, "emphasis": emphasized.get(entry.ref, "")}
            layout, made = layout_as_text(entry.gaps, entry.extent), embeddings.get(entry.ref, [])
            of_record = {"entity": entry.ref.entity, "id": entry.ref.id, "data": data}
            yield {**of_record, **of_content, "layout": layout, "made": made}
        after = page[-1].entry.ref


def _as_line(embedding: Embedding) -> Sequence[Any]:
    """Its columns but for the record and its content; the vector, float32 little-endian, in base64."""
    _, _, vector, *rest = embedding
    return [vector and b64encode(vector).decode(), *rest]


# import


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import did, in records: `embedded` have the embeddings of the file, `pending` are to be embedded, for
    the reason in `note`."""

    tenant: str
    records: int = 0
    embedded: int = 0
    pending: int = 0
    note: str = ""


def load(index: Index, file: Path) -> ImportReport:
    """Write the records of an exported file, replacing those of the same keys, and its rules and judgements beside
    those that are there; a batch a transaction, so that one that was interrupted is completed by another. Raises
    InvalidInput for any other file."""
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        header = _header(lines.readline, file)
        if header["synonyms"]:
            Synonyms(index, header["tenant"]).add(*header["synonyms"])
        report = ImportReport(header["tenant"])
        if rules := header["rules"]:
            index.committed(lambda connection: write_rules(index, connection, report.tenant, rules), (report.tenant,))
        if header["judgements"]:
            Judgements(index, report.tenant).load(header["judgements"])
        read = _lines(lines, file)
        while batch := list(islice(read, RECORDS_A_BATCH)):
            done = index.retried(partial(_load_batch, index, header, batch))
            report = replace(
                report,
                records=report.records + len(batch),
                embedded=report.embedded + done.embedded,
                pending=report.pending + done.pending,
                note=done.note or report.note,
            )
            index.maintain_keywords(None)
    return report


def _header(read: Callable[[], str], file: Path) -> dict[str, Any]:
    try:
        header: dict[str, Any] = json.loads(read())
        is_known = header["format"] == FORMAT
        header["tenant"] = one_tenant(header["tenant"])
        header["entities"] = [_entity(definition) for definition in header["entities"]] if is_known else []
        header["rules"] = [rule_from_json(rule) for rule in header["rules"]] if is_known else []
        header["judgements"] = [from_json(one) for one in header["judgements"]] if is_known else []
        header["synonyms"] = [str(read_rule(rule)) for rule in header["synonyms"]] if is_known else []
        if is_known and header["model"] is not None:
            header["model"] = _model(header["model"])
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise InvalidInput(
            f"{file} is no export of a tenant: {error}. `kameleon tenants export acme acme.jsonl.gz` makes one"
        ) from error
    if not is_known:
        raise InvalidInput(f"{file} has the format {seen(header['format'])}, this kameleon reads {FORMAT!r}")
    return header


def _model(given: Mapping[str, Any]) -> dict[str, Any]:
    fingerprint, name, *noise = (given[name] for name in MODEL)
    kept = [str(fingerprint), str(name), *(None if one is None else float(one) for one in noise)]
    return dict(zip(MODEL, kept, strict=True))


def _entity(definition: Mapping[str, Any]) -> Entity:
    return entity_of(check_entity(definition["name"]), definition)


def _lines(lines: Iterable[str], file: Path) -> Iterator[dict[str, Any]]:
    """The records of the file, each with its names. Raises InvalidInput with the line."""
    at, names = 1, {"entity", "id", "content", "emphasis", "layout", "data", "made"}
    try:
        for line in lines:
            at += 1
            record: dict[str, Any] = json.loads(line)
            if not isinstance(record, dict) or set(record) != names:
                raise ValueError("not a record of an export")
            check_entity(record["entity"]), check_id(record["id"])
            _check_types(record)
            yield record
    except (OSError, EOFError, ValueError) as error:
        raise InvalidInput(
            f"{file}, line {at}: {error}. Batches before it are imported; export the tenant again and import that"
        ) from error


def _check_types(record: Mapping[str, Any]) -> None:
    if not isinstance(record["content"], str) or not isinstance(record["data"], dict | None):
        raise ValueError("its content is no text, or its data no object")
    if not isinstance(record["made"], list) or not isinstance(record["layout"], str):
        raise ValueError("its embeddings are no list, or its layout no text")
    layout_of_text(record["layout"])


def _load_batch(index: Index, header: Mapping[str, Any], batch: Sequence[Mapping[str, Any]]) -> ImportReport:
    with index.transaction(tenants=(header["tenant"],)) as connection:
        index.begin_writing(connection)
        generations = index.catalog.generations(connection)
        service = index.services.writing(connection, generations)
        entities = _declared(index, connection, header["entities"])
        entries = [_entry(entities, header["tenant"], line) for line in batch]
        plan = index.writer.compare(connection, entries, service, generations)
        wanted = {entry.ref for entry in plan.to_embed}
        note, made, noise = "", list[Embedding](), None
        if service is None or header["model"] is None or service.provider.fingerprint != header["model"]["fingerprint"]:
            note = _other_model(header, service.provider.model_name if service else "")
        else:
            pairs = zip(entries, batch, strict=True)
            made = [each for entry, line in pairs if entry.ref in wanted for each in _embeddings(entry, line["made"])]
            noise = _noise(header["model"]) if plan.lacks_noise else None
        _write_data(index, connection, entries, batch)
        report = index.apply(replace(plan, embeddings=made, generations=generations, noise=noise), connection)
    embedded = len({embedding.ref for embedding in made})
    return ImportReport(header["tenant"], len(batch), embedded, report.pending, note if wanted else "")


def _noise(model: Mapping[str, Any]) -> tuple[float, float] | None:
    mean, deviation = model["noise_mean"], model["noise_deviation"]
    return None if mean is None or deviation is None else (mean, deviation)


def _other_model(header: Mapping[str, Any], own: str) -> str:
    theirs = header["model"]["model_name"] if header["model"] else "no model"
    return (
        f"the embeddings of the file are {theirs}'s, this engine's model is {own or 'none'}: theirs are left out, and "
        "`kameleon embeddings sync` makes those that are missing"
    )


def _declared(index: Index, connection: Connection, definitions: Sequence[Entity]) -> Mapping[str, Entity]:
    """The entities of the record store, those of the file that are missing made."""
    known = index.catalog.entities(connection)
    for definition in definitions:
        if definition.name not in known:
            index.catalog.write_entity(connection, definition, is_new=True)
            if definition.boosts:
                index.curation.note_change(connection)
    if definitions:
        index.catalog.index_fields(connection)
    return index.catalog.entities(connection) if definitions else known


def _entry(entities: Mapping[str, Entity], tenant: str, line: Mapping[str, Any]) -> Entry:
    """Of the record store's records, rendered; of others the contents as they are."""
    ref = Ref(line["entity"], line["id"], tenant)
    if line["data"] is not None and ref.entity in entities:
        return record_entry(entities[ref.entity], ref.id, line["data"])._replace(ref=ref)
    gaps, extent = layout_of_text(line["layout"])
    return make_entry(ref, normalize(line["content"]), normalize(line["emphasis"]), gaps, extent=extent)


def _embeddings(entry: Entry, made: Sequence[Sequence[Any]]) -> Iterator[Embedding]:
    for vector, *rest in made:
        yield Embedding(entry.ref, entry.content_hash, vector and b64decode(vector), *rest)


def _write_data(
    index: Index, connection: Connection, entries: Sequence[Entry], batch: Sequence[Mapping[str, Any]]
) -> None:
    """The rows of the record store, replacing those that are there."""
    table = index.tables.records
    by_entity: dict[str, list[tuple[str, str, Mapping[str, Any]]]] = {}
    for entry, line in zip(entries, batch, strict=True):
        if line["data"] is not None:
            by_entity.setdefault(entry.ref.entity, []).append((entry.ref.tenant, entry.ref.id, line["data"]))
    for entity, rows in by_entity.items():
        for part in parts(rows, IDS_A_STATEMENT):
            own = (
                table.c.tenant == part[0][0],
                table.c.entity_name == entity,
                table.c.id.in_([id_ for _, id_, _ in part]),
            )
            connection.execute(table.delete().where(*own))
            index.store.records.add(connection, entity, part, datetime.now(UTC))
