"""The registry: which generations of embeddings the database holds, and which entities were declared. Imports `values`,
`boosts`, `content` and `embeddings`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import Connection, case, func, null, select, type_coerce

from ..boosts import Boost, read_boosts
from ..content import PLAIN, Field
from ..values import BUILDING, Generation, Noise
from .model_commands import command, origin
from .own_connections import is_own
from .paths import FieldNames, Path, declared_names, is_nested
from .protocols import Store
from .settings import CURATION
from .tables import indexed_fields, read_document

if TYPE_CHECKING:
    from ..embeddings.provider import EmbeddingProvider

ACTIVE, RETIRED, DROPPED = "active", "retired", "dropped"
DESCRIBED = tuple(field.name for field in fields(Generation))


@dataclass(frozen=True, slots=True)
class DeclaredField:
    """`type` is one of `records.rows.TYPES`. `search` is how it is searched, None for a field that is not. One that
    `is_empty` was null in every record."""

    name: str
    type: str = "any"
    search: Field | None = None
    is_empty: bool = False

    @property
    def is_searchable(self) -> bool:
        return self.search is not None


@dataclass(frozen=True, slots=True)
class Entity:
    """An entity of the record store. `fields` in the order they were declared or first seen. `tenant_field` is the one
    that names a record's tenant, "" where each call does; None of an entity without tenants. One that `is_inferred` was
    made from records: the texts of fields that come later are searched. `boosts` are those of each search that gives
    none. `filters` is the object in which names of fields begin, empty for the record itself."""

    name: str
    fields: tuple[DeclaredField, ...] = ()
    tenant_field: str | None = None
    is_inferred: bool = False
    boosts: tuple[Boost, ...] = ()
    filters: str = ""

    @property
    def has_tenants(self) -> bool:
        return self.tenant_field is not None

    @property
    def searchable(self) -> tuple[str, ...]:
        return tuple(field.name for field in self.fields if field.is_searchable)

    @property
    def field_names(self) -> tuple[str, ...]:
        """Those of the record itself."""
        return tuple(field.name for field in self.fields if not is_nested(field.name, self.filters))

    @property
    def names(self) -> FieldNames:
        """Those that filters, facets, orders and boosts may have."""
        return declared_names({field.name: field.type for field in self.fields}, self.filters)


class Registry(NamedTuple):
    """What queries depend on beside records. `curation` is the version of synonyms, query rules and entities'
    boosts."""

    generations: list[Generation]
    curation: str
    entities: Mapping[str, Entity] = {}


def active(known: Sequence[Generation]) -> Generation | None:
    return next((generation for generation in known if generation.state == ACTIVE), None)


def current(known: Sequence[Generation]) -> Generation | None:
    """Returns the generation whose model the index has: the active one, or the one being built in place."""
    return active(known) or (known[-1] if known and known[-1].state == BUILDING else None)


def of_fingerprint(known: Sequence[Generation], fingerprint: str) -> Generation | None:
    """Returns the generation that a query of this fingerprint reads: the active one, else the newest complete one."""
    made = [g for g in known if g.fingerprint == fingerprint and g.state != BUILDING]
    return active(made) or (made[-1] if made else None)


def written_generation(known: Sequence[Generation], fingerprint: str) -> Generation | None:
    """Returns the generation that embeddings of this fingerprint are written to, which may be one that is being
    built."""
    built = [g for g in known if g.fingerprint == fingerprint]
    return of_fingerprint(known, fingerprint) or (built[-1] if built else None)


def mismatch(known: Sequence[Generation], provider: "EmbeddingProvider") -> str:
    """Explains why a provider's embeddings cannot be written: the index has another model and no generation of this
    one. Else empty."""
    generation = current(known)
    if generation is None or written_generation(known, provider.fingerprint) is not None:
        return ""
    there = f"{generation.model_name} ({generation.dimensions} dimensions){origin(generation.options)}"
    here = f"{provider.model_name} ({provider.dimensions}){origin(provider.options)}"
    if there == here.replace(f"({provider.dimensions})", f"({provider.dimensions} dimensions)"):
        here += ", of other weights, pooling, prefixes or revision"
    way = f"move the index to this one: {command(provider)}"
    if getattr(provider, "is_given", False):  # nothing can make its vectors of the records that are there
        way = "give these vectors to an index of their own: SearchEngine(engine, provider, namespace='…')"
    return f"the index holds embeddings of {there}, this engine's provider is {here}. Use the index's model, or {way}"


def unread(known: Sequence[Generation], provider: "EmbeddingProvider") -> str:
    """Explains why a provider's query cannot be compared with any embedding yet. Else empty."""
    fingerprint = provider.fingerprint
    if of_fingerprint(known, fingerprint) is not None:
        return ""
    place = written_generation(known, fingerprint)
    if place is None:
        return mismatch(known, provider)
    return (
        f"the embeddings of {provider.model_name} (generation {place.number}) are still being built: "
        "`kameleon embeddings status` shows how far, `kameleon embeddings reindex` goes on with it"
    )


class Catalog:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._generations = store.tables.generations
        self._entities = store.tables.entities
        columns = self._generations.c
        meta = store.tables.meta
        present = meta.outerjoin(self._generations, columns.state != DROPPED)
        self._there = select(meta.c.value, *(columns[name] for name in DESCRIBED)).select_from(present)
        self._there = self._there.where(meta.c.key == CURATION).order_by(columns.number)
        kinds = self._entities.c
        nothing = type_coerce(null(), kinds.definition.type).label("definition")
        there = self._there.order_by(None).add_columns(null().label("name"), nothing)
        none = [null() for _ in range(1 + len(DESCRIBED))]
        self._with_entities = there.union_all(select(*none, kinds.name, kinds.definition))
        self._statements: dict[Any, str] = {}
        self._made_last: dict[Any, tuple[Sequence[Any], Registry]] = {}

    def generations(self, connection: Connection) -> list[Generation]:
        """Returns those that have embeddings, oldest first."""
        return [*self.registry(connection).generations]

    def registry(self, connection: Connection) -> Registry:
        """Returns what queries depend on but for entities. Every query reads it: on kameleon's own connections without
        SQLAlchemy, and most read the same rows as the query before."""
        return self._made(connection, self._there, _registry)

    def dropped(self, connection: Connection) -> list[Generation]:
        """Returns those whose embeddings were dropped."""
        table = self._generations
        gone = table.select().where(table.c.state == DROPPED).order_by(table.c.number)
        return [_generation(row) for row in connection.execute(gone)]

    def with_tables(self, connection: Connection) -> list[Generation]:
        """Returns those that have a table, dropped ones too."""
        numbers = self._store.schema.embedding_tables(connection)
        known = [*self.generations(connection), *self.dropped(connection)]
        return [each for each in known if each.number in numbers]

    def retired_last(self, connection: Connection) -> Generation | None:
        """Returns the one that was active before the active one."""
        table = self._generations
        newest = (
            table.select().where(table.c.state == RETIRED).order_by(table.c.updated_at.desc(), table.c.number.desc())
        )
        row = connection.execute(newest.limit(1)).one_or_none()
        return _generation(row) if row else None

    def entities(self, connection: Connection) -> dict[str, Entity]:
        """Returns those of the record store by name."""
        table = self._entities
        rows = connection.execute(table.select().order_by(table.c.name))
        return {row.name: entity_of(row.name, row.definition) for row in rows}

    def locked_entity(self, connection: Connection, name: str) -> Entity | None:
        """Locks an entity until the transaction ends, and returns it."""
        table = self._entities
        row = connection.execute(table.select().where(table.c.name == name).with_for_update()).one_or_none()
        return entity_of(row.name, row.definition) if row else None

    def read(self, connection: Connection) -> Registry:
        """Reads the registry and the entities of the record store in one statement, most of which were read before."""
        return self._made(connection, self._with_entities, _registry_with_entities)

    def _made(self, connection: Connection, there: Any, make: Callable[[Sequence[Any]], Registry]) -> Registry:
        """Makes a registry of the rows of a statement, or returns the one that was made of the same rows last."""
        if not is_own(connection):
            return make([tuple(row) for row in connection.execute(there)])
        if make not in self._statements:
            compiled = there.compile(dialect=connection.dialect, compile_kwargs={"literal_binds": True})
            self._statements[make] = str(compiled)
        rows = self._store.connections.fetched(connection, self._statements[make])
        before, made = self._made_last.get(make, ((), Registry([], "")))
        if rows != before:
            made = make(rows)
            self._made_last[make] = rows, made
        return made

    def ensure_generation(
        self,
        connection: Connection,
        known: Sequence[Generation],
        provider: "EmbeddingProvider",
        noise: Noise | None = None,
    ) -> Generation | None:
        """Returns the provider's of the `known` generations, made and active if the index has none yet; None where it
        has another model. `noise` is kept where it has none."""
        if written_generation(known, provider.fingerprint) is None and not mismatch(known, provider):
            self._store.schema.lock_registry(connection)
            known = self.generations(connection)
        if mismatch(known, provider):
            return None
        generation = written_generation(known, provider.fingerprint)
        if generation is None:
            return self.add_generation(connection, provider, ACTIVE, noise)
        if noise is not None and generation.noise is None:
            self.set_noise(connection, generation.number, noise)
        return generation

    def add_generation(
        self, connection: Connection, provider: "EmbeddingProvider", state: str, noise: Noise | None = None
    ) -> Generation:
        """Adds one with its table; the registry is locked. A number is never used twice. Its weight and
        weighting are those of the last one of its model."""
        columns = self._generations.c
        last = connection.scalar(select(func.max(columns.number)))
        same = select(columns.weight, columns.weighting).where(columns.fingerprint == provider.fingerprint)
        before = connection.execute(same.order_by(columns.number.desc()).limit(1)).first()
        mean, deviation = noise or provider.noise or (None, None)
        generation = Generation(
            number=(last or 0) + 1,
            provider=provider.name,
            options=dict(provider.options),
            model_name=provider.model_name,
            dimensions=provider.dimensions,
            fingerprint=provider.fingerprint,
            weight=provider.vector_weight if before is None else before.weight,
            weighting=None if before is None else before.weighting,
            state=state,
            noise_mean=mean,
            noise_deviation=deviation,
        )
        now = datetime.now(UTC)
        row = {name: getattr(generation, name) for name in DESCRIBED}
        connection.execute(self._generations.insert(), {**row, "created_at": now, "updated_at": now})
        self._store.schema.add_generation(connection, generation)
        return generation

    def switch(self, connection: Connection, to: Generation) -> None:
        """Makes a generation the active one, and retires the one that was, in one statement."""
        table = self._generations
        state = case((table.c.number == to.number, ACTIVE), else_=RETIRED)
        changed = table.update().where((table.c.number == to.number) | (table.c.state == ACTIVE))
        connection.execute(changed.values(state=state, updated_at=datetime.now(UTC)))

    def set_weight(self, connection: Connection, number: int, weight: float, weighting: Any = None) -> None:
        """Sets the weight of a generation's vectors in every later search, and how it follows from a query."""
        self._change(connection, [number], weight=weight, weighting=weighting)

    def set_noise(self, connection: Connection, number: int, noise: Noise) -> None:
        """Sets what the cosines of a generation's unrelated texts are."""
        table = self._generations
        mean, deviation = noise
        changed = table.update().where(table.c.number == number)
        connection.execute(changed.values(noise_mean=mean, noise_deviation=deviation))

    def set_options(self, connection: Connection, generation: Generation, provider: "EmbeddingProvider") -> None:
        """Sets the options that a generation's model is opened with, such as its folder's new path."""
        names = {"model_name": provider.model_name, "provider": provider.name}
        self._change(connection, [generation.number], options=dict(provider.options), **names)

    def reopen(self, connection: Connection, generation: Generation) -> None:
        """Makes a retired one one that is being built: no query reads it before it is complete."""
        self._change(connection, [generation.number], state=BUILDING)

    def forget(self, connection: Connection, numbers: Sequence[int]) -> None:
        """Hides these from transactions that begin later; their tables remain."""
        self._change(connection, numbers, state=DROPPED)

    def _change(self, connection: Connection, numbers: Sequence[int], **values: Any) -> None:
        table = self._generations
        changed = table.update().where(table.c.number.in_(numbers))
        connection.execute(changed.values(**values, updated_at=datetime.now(UTC)))

    def write_entity(self, connection: Connection, entity: Entity, *, is_new: bool) -> None:
        table = self._entities
        now = datetime.now(UTC)
        definition = as_definition(entity)
        if is_new:
            row = {"name": entity.name, "definition": definition, "created_at": now, "updated_at": now}
            connection.execute(table.insert(), row)
        else:
            changes = {"definition": definition, "updated_at": now}
            connection.execute(table.update().where(table.c.name == entity.name), changes)

    def index_fields(self, connection: Connection) -> None:
        """Makes the indexes of all declared fields, and drops others. Fields that inserts add have no types."""
        self._store.schema.index_fields(connection, self.indexed_fields(connection))

    def indexed_fields(self, connection: Connection) -> list[tuple[Path, str]]:
        """The declared fields of all entities that have an index, with their types."""
        return indexed_fields(connection.scalars(select(self._entities.c.definition)).all())


def as_definition(entity: Entity) -> dict[str, Any]:
    """Renders an entity without its name, as JSON can hold it."""
    definition: dict[str, Any] = {"fields": list(map(_as_dict, entity.fields))}
    if entity.has_tenants:
        definition["tenant_field"] = entity.tenant_field
    if entity.is_inferred:
        definition["inferred"] = True
    if entity.boosts:
        definition["boost"] = [boost.as_json() for boost in entity.boosts]
    if entity.filters:
        definition["filters"] = entity.filters
    return definition


def _as_dict(field: DeclaredField) -> dict[str, Any]:
    search = field.search or PLAIN
    made = {"name": field.name, "type": field.type, "searchable": field.is_searchable, "weight": int(search.weight)}
    others = {"index": search.index, "html": search.html, "empty": field.is_empty}
    return {**made, **{name: value for name, value in others.items() if value and value != PLAIN.index}}


def entity_of(name: str, definition: Mapping[str, Any]) -> Entity:
    """Makes an entity of its definition, which may lack what was added to definitions later."""
    named = definition["fields"]
    fields = tuple(DeclaredField(f["name"], f["type"], _search_of(f), f.get("empty", False)) for f in named)
    boosts = read_boosts(definition.get("boost", ()))
    tenant_field, is_inferred = definition.get("tenant_field"), definition.get("inferred", False)
    return Entity(name, fields, tenant_field, is_inferred, boosts, definition.get("filters", ""))


def _search_of(field: Mapping[str, Any]) -> Field | None:
    if not field["searchable"]:
        return None
    made = Field(field.get("weight", 1), field.get("index", "both"), field.get("html", False))
    return PLAIN if made == PLAIN else made


def _registry(rows: Sequence[Sequence[Any]]) -> Registry:
    """Makes it of rows as SQLAlchemy or the driver has them, one without a generation where there is none."""
    made = [_described(*row[1:]) for row in rows if row[1] is not None]
    return Registry(made, rows[0][0] if rows else "")


def _registry_with_entities(rows: Sequence[Sequence[Any]]) -> Registry:
    """Makes it of rows that end with the name and the definition of an entity, if they are not of the registry."""
    made = _registry(sorted((row[:-2] for row in rows if row[-2] is None), key=lambda row: row[1] or 0))
    named = sorted((row[-2:] for row in rows if row[-2] is not None), key=lambda row: str(row[0]))
    return made._replace(entities={name: entity_of(name, read_document(definition)) for name, definition in named})


def _described(*values: Any) -> Generation:
    named = dict(zip(DESCRIBED, values, strict=True))
    return Generation(**{**named, **{name: read_document(named[name]) for name in ("options", "weighting")}})


def _generation(row: Any) -> Generation:
    return Generation(**{name: getattr(row, name) for name in DESCRIBED})
