"""Marks in `kdb_dirty`: which entities have triggers that set them, and the marks of records that are about to be
written. Imports `values` and `stores`."""

import json
from collections.abc import Iterable, Mapping, Sequence
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

    def set_tracked(self, connection: Connection, entities: Iterable[str], made: Made | None) -> None:
        """The first of the entities is that of the class whose triggers were made, or dropped where there are none."""
        meta, dirty = self._tables.meta, self._tables.dirty
        owner: str | None = None
        for entity in entities:
            connection.execute(meta.delete().where(meta.c.key == TRACKED + entity))
            if made is None:
                connection.execute(dirty.delete().where(dirty.c.entity_name == entity))
            else:
                value = made.as_text() if owner is None else Made(by=owner).as_text()
                connection.execute(meta.insert(), {"key": TRACKED + entity, "value": value})
            owner = owner or entity
        self._tracked = None

    def made(self, connection: Connection) -> dict[str, Made]:
        """The triggers, by the entities that they were made for."""
        meta = self._tables.meta
        query = select(meta.c.key, meta.c.value).where(meta.c.key.startswith(TRACKED, autoescape=True))
        found = {key.removeprefix(TRACKED): Made(**json.loads(value)) for key, value in connection.execute(query)}
        return {entity: found[entity] for entity in sorted(found) if not found[entity].by}

    def tracked(self, connection: Connection) -> set[str]:
        """Entities with triggers; one that another process adds is found after this process's next start."""
        if (found := self._tracked) is None:
            meta = self._tables.meta
            keys = connection.execute(select(meta.c.key).where(meta.c.key.startswith(TRACKED, autoescape=True)))
            found = self._tracked = {key.removeprefix(TRACKED) for key in keys.scalars()}
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
