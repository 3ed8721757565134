"""What the database says about itself: which generations of embeddings it holds, and which entities were declared."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Row

from ..values import Generation
from .store import Store
from .tables import entities, generations

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


def read_generations(connection: Connection) -> list[Generation]:
    return [_generation(row) for row in connection.execute(generations.select().order_by(generations.c.number))]


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


def add_generation(connection: Connection, store: Store, provider: "EmbeddingProvider", state: str) -> Generation:
    known = read_generations(connection)
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
    connection.execute(
        generations.insert(),
        {
            "number": generation.number,
            "provider": generation.provider,
            "options": generation.options,
            "model_name": generation.model_name,
            "dimensions": generation.dimensions,
            "fingerprint": generation.fingerprint,
            "weight": generation.weight,
            "state": generation.state,
            "created_at": now,
            "updated_at": now,
        },
    )
    store.add_generation(connection, generation)
    return generation


def read_entities(connection: Connection) -> dict[str, Entity]:
    rows = connection.execute(entities.select().order_by(entities.c.name))
    return {row.name: Entity(row.name, _fields(row.definition)) for row in rows}


def write_entity(connection: Connection, entity: Entity, *, is_new: bool) -> None:
    now = datetime.now(UTC)
    definition = {"fields": [{"name": f.name, "type": f.type, "searchable": f.is_searchable} for f in entity.fields]}
    if is_new:
        row = {"name": entity.name, "definition": definition, "created_at": now, "updated_at": now}
        connection.execute(entities.insert(), row)
    else:
        connection.execute(
            entities.update().where(entities.c.name == entity.name), {"definition": definition, "updated_at": now}
        )


def _fields(definition: Mapping[str, Any]) -> tuple[Field, ...]:
    return tuple(Field(f["name"], f["type"], f["searchable"]) for f in definition["fields"])


def _generation(row: Row[Any]) -> Generation:
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
