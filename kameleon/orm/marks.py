"""Marks in `kdb_dirty`: which entities have triggers that set them, and the marks of records that are about to be
written. Imports `values` and `stores`."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

from sqlalchemy import Connection, select

from ..stores.refs import ids_by_entity
from ..stores.tables import IDS_A_STATEMENT, Tables, parts
from ..values import Ref

TRACKED = "tracked:"


@dataclass(frozen=True, slots=True)
class Made:
    """Triggers as `kdb_meta` keeps them: a digest of what made them, and by their names their tables and digests of
    what the database has. Those of an entity that shares another's are that one's."""

    plan: str = ""
    triggers: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    by: str = ""

    def as_text(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False)

    def missing(self, present: Mapping[str, str]) -> list[str]:
        """The tables whose triggers are not what they were made as."""
        return sorted({table for name, (table, digest) in self.triggers.items() if present.get(name) != digest})


class Marks:
    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._tracked: set[str] | None = None

    def set_tracked(self, connection: Connection, entities: Sequence[str], made: Made) -> None:
        """The first of the entities is that of the class whose triggers were made; those of the others are the same."""
        self._delete(connection, entities)
        values = [made, *(Made(by=entities[0]) for _ in entities[1:])]
        rows = [{"key": TRACKED + entity, "value": one.as_text()} for entity, one in zip(entities, values, strict=True)]
        connection.execute(self._tables.meta.insert(), rows)

    def set_untracked(self, connection: Connection, entity: str) -> None:
        """Delete what is known of its triggers, and the marks that are left."""
        entities = [name for name, made in self._all(connection).items() if entity in (name, made.by)]
        self._delete(connection, entities)
        dirty = self._tables.dirty
        connection.execute(dirty.delete().where(dirty.c.entity_name.in_([entity, *entities])))

    def _delete(self, connection: Connection, entities: Sequence[str]) -> None:
        meta = self._tables.meta
        connection.execute(meta.delete().where(meta.c.key.in_([TRACKED + entity for entity in entities])))
        self._tracked = None

    def _all(self, connection: Connection) -> dict[str, Made]:
        meta = self._tables.meta
        query = select(meta.c.key, meta.c.value).where(meta.c.key.startswith(TRACKED, autoescape=True))
        rows = sorted(map(tuple, connection.execute(query)))
        return {key.removeprefix(TRACKED): Made(**json.loads(value)) for key, value in rows}

    def made(self, connection: Connection) -> dict[str, Made]:
        """The triggers, by the entities that they were made for."""
        return {entity: made for entity, made in self._all(connection).items() if not made.by}

    def tracked(self, connection: Connection) -> set[str]:
        """Entities with triggers; one that another process adds is found after this process's next start."""
        if (found := self._tracked) is None:
            found = self._tracked = set(self._all(connection))
        return found

    def of(self, connection: Connection, refs: Sequence[Ref]) -> list[int]:
        """The marks, so far, of tracked records that are about to be written. Their content is to be read from their
        tables, for raw SQL of the same transaction may have set the marks."""
        dirty = self._tables.dirty
        found: list[int] = []
        for entity, ids in ids_by_entity(refs).items():
            for part in parts(ids, IDS_A_STATEMENT):
                query = select(dirty.c.seq).where(dirty.c.entity_name == entity, dirty.c.record_id.in_(part))
                found += connection.execute(query).scalars()
        return found

    def delete(self, connection: Connection, marks: Sequence[int]) -> None:
        dirty = self._tables.dirty
        for part in parts(marks, IDS_A_STATEMENT):
            connection.execute(dirty.delete().where(dirty.c.seq.in_(part)))
