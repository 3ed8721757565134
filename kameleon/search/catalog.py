"""What the database says about itself: which generations of embeddings it holds, and which entities were declared."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, null, select, type_coerce

from ..values import Generation
from .store import Store

if TYPE_CHECKING:
    from ..embeddings.provider import EmbeddingProvider

BUILDING, ACTIVE = "building", "active"


@dataclass(frozen=True, slots=True)
class Field:
    """`type` is any, text, integer, number, boolean, list or object; any is not checked."""

    name: str
    type: str = "any"
    is_searchable: bool = False


@dataclass(frozen=True, slots=True)
class Entity:
    """An entity of the record store. `fields` in the order they were declared or first seen."""

    name: str
    fields: tuple[Field, ...] = ()

    @property
    def searchable(self) -> tuple[str, ...]:
        return tuple(field.name for field in self.fields if field.is_searchable)

    @property
    def field_names(self) -> tuple[str, ...]:
        return tuple(field.name for field in self.fields)


def active(known: Sequence[Generation]) -> Generation | None:
    return next((generation for generation in known if generation.state == ACTIVE), None)


def of_fingerprint(known: Sequence[Generation], fingerprint: str) -> Generation | None:
    """The generation of a fingerprint: the active one, else the newest that is not being built."""
    made = [g for g in known if g.fingerprint == fingerprint and g.state != BUILDING]
    return active(made) or (made[-1] if made else None)


def mismatch(known: Sequence[Generation], provider: "EmbeddingProvider") -> str:
    """Why a provider has no place in the index: another model is active and it has no generation. Else empty."""
    current = active(known)
    if current is None or of_fingerprint(known, provider.fingerprint) is not None:
        return ""
    return (
        f"the index holds embeddings of {current.model_name} ({current.dimensions} dimensions), this engine's provider "
        f"is {provider.model_name}. Use the index's model"
    )


class Catalog:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._generations = store.tables.generations
        self._entities = store.tables.entities

    def generations(self, connection: Connection) -> list[Generation]:
        """Oldest first."""
        table = self._generations
        return [_generation(row) for row in connection.execute(table.select().order_by(table.c.number))]

    def entities(self, connection: Connection) -> dict[str, Entity]:
        """By name."""
        table = self._entities
        rows = connection.execute(table.select().order_by(table.c.name))
        return {row.name: Entity(row.name, _fields(row.definition)) for row in rows}

    def locked_entity(self, connection: Connection, name: str) -> Entity | None:
        """An entity that no other transaction changes before this one ends."""
        table = self._entities
        row = connection.execute(table.select().where(table.c.name == name).with_for_update()).one_or_none()
        return Entity(row.name, _fields(row.definition)) if row else None

    def read(self, connection: Connection) -> tuple[list[Generation], dict[str, Entity]]:
        """Both, in one statement."""
        models, kinds = self._generations.c, self._entities.c
        nothing = type_coerce(null(), kinds.definition.type).label("definition")
        both = select(*models, null().label("name"), nothing).union_all(
            select(*(null() for _ in models), kinds.name, kinds.definition)
        )
        rows = connection.execute(both).all()
        made = sorted((_generation(row) for row in rows if row.name is None), key=lambda made: made.number)
        named = sorted((row for row in rows if row.name is not None), key=lambda row: row.name)
        return made, {row.name: Entity(row.name, _fields(row.definition)) for row in named}

    def ensure_generation(
        self, connection: Connection, known: Sequence[Generation], provider: "EmbeddingProvider"
    ) -> Generation | None:
        """The provider's of the `known` generations, an active one made if the index has none yet; None where another
        model is."""
        if of_fingerprint(known, provider.fingerprint) is None and not mismatch(known, provider):
            self._store.lock_registry(connection)
            known = self.generations(connection)
        if mismatch(known, provider):
            return None
        return of_fingerprint(known, provider.fingerprint) or self._add_generation(connection, known, provider, ACTIVE)

    def _add_generation(
        self, connection: Connection, known: Sequence[Generation], provider: "EmbeddingProvider", state: str
    ) -> Generation:
        generation = Generation(
            number=max((g.number for g in known), default=0) + 1,
            provider=provider.name,
            options=dict(provider.options),
            model_name=provider.model_name,
            dimensions=provider.dimensions,
            fingerprint=provider.fingerprint,
            weight=provider.vector_weight,
            state=state,
        )
        now = datetime.now(UTC)
        row = {field.name: getattr(generation, field.name) for field in fields(generation)}
        connection.execute(self._generations.insert(), {**row, "created_at": now, "updated_at": now})
        self._store.add_generation(connection, generation)
        return generation

    def write_entity(self, connection: Connection, entity: Entity, *, is_new: bool) -> None:
        table = self._entities
        now = datetime.now(UTC)
        definition = {
            "fields": [{"name": f.name, "type": f.type, "searchable": f.is_searchable} for f in entity.fields]
        }
        if is_new:
            row = {"name": entity.name, "definition": definition, "created_at": now, "updated_at": now}
            connection.execute(table.insert(), row)
        else:
            changes = {"definition": definition, "updated_at": now}
            connection.execute(table.update().where(table.c.name == entity.name), changes)


def _fields(definition: Mapping[str, Any]) -> tuple[Field, ...]:
    return tuple(Field(f["name"], f["type"], f["searchable"]) for f in definition["fields"])


def _generation(row: Any) -> Generation:
    return Generation(
        number=row.number,
        provider=row.provider,
        options=row.options,
        model_name=row.model_name,
        dimensions=row.dimensions,
        fingerprint=row.fingerprint,
        weight=row.weight,
        state=row.state,
    )
