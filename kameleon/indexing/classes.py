"""Remembers in `kdb_class` how the fields of mapped classes were indexed. Imports `stores`."""

import shlex
import weakref
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import uuid4

from sqlalchemy import Connection, RootTransaction

from ..stores.protocols import Store
from .curation import Curation

Definition = Mapping[str, Any]
"""A class's fields with their options, in order, and what else its contents depend on, as JSON has it."""

COMPLETE, MIXED = "", "mixed"
"""States of a class: all of its records were indexed by its definition; some were by another one. While a run indexes
them again the state is the run's own."""


class Standing(NamedTuple):
    """How a class is defined `now`, and how its records were indexed; `before` is None where that is not known."""

    now: Definition
    before: Definition | None = None
    state: str = COMPLETE

    @property
    def is_same(self) -> bool:
        """Whether all records were indexed as the class is defined now."""
        return self.state == COMPLETE and self.now == self.before


class Classes:
    """Of one engine. `of` gives the definition of an entity that is a mapped class of this process. What was read is
    valid for one version of the registry, which a run that indexes records again replaces: so a commit reads nothing
    but at its first record of a class, and after such a run."""

    def __init__(self, store: Store, curation: Curation) -> None:
        self._store = store
        self._table = store.tables.classes
        self._curation = curation
        self._known: dict[str, tuple[str, bool]] = {}
        self._noted: dict[str, weakref.ref[RootTransaction]] = {}
        self.of: Callable[[str], Definition | None] = lambda _entity: None

    def standings(self, connection: Connection, definitions: Mapping[str, Definition]) -> dict[str, Standing]:
        """Reads how the records of classes were indexed."""
        table = self._table
        rows = connection.execute(table.select().where(table.c.entity_name.in_(definitions)))
        found = {row.entity_name: (row.definition, row.state) for row in rows}
        return {entity: Standing(now, *found.get(entity, ())) for entity, now in definitions.items()}

    def outdated(self, connection: Connection, definitions: Mapping[str, Definition]) -> dict[str, Standing]:
        """Reads those of the classes whose records are to be indexed again."""
        found = {name: each for name, each in self.standings(connection, definitions).items() if not each.is_same}
        if any(standing.before is None for standing in found.values()):
            present = self._store.contents.entities(connection)
            return {name: each for name, each in found.items() if each.before is not None or name in present}
        return found

    def unread(self, connection: Connection, entities: Collection[str], version: str) -> dict[str, Standing]:
        """Reads those of the entities that are classes whose standing is not known for this version."""
        unknown = (name for name in entities if name not in self._known or self._known[name][0] != version)
        if not (definitions := {name: now for name in unknown if (now := self.of(name)) is not None}):
            return {}
        found = self.standings(connection, definitions)
        for entity, standing in found.items():
            if standing.is_same:
                self._remember(connection, entity, version, is_altered=False)
        return found

    def is_altered(self, entities: Collection[str], standings: Mapping[str, Standing]) -> bool:
        """Whether records of one of the entities may have been indexed by another definition."""
        return any(
            not standings[name].is_same if name in standings else self._known.get(name, ("", False))[1]
            for name in entities
        )

    def note(self, connection: Connection, standings: Mapping[str, Standing], version: str) -> Iterator[str]:
        """Notes, in a transaction that writes records by the definitions of now, what these are and where others were
        before; yields the classes of these."""
        for entity, (now, before, state) in sorted(standings.items()):
            if before is None:
                self._note_first(connection, entity, now, version)
            elif before == now or state == MIXED:
                self._remember(connection, entity, version, is_altered=state != COMPLETE)
            else:
                self._set(connection, entity, state=MIXED)
            if before is not None and before != now:
                yield entity

    def begin(self, connection: Connection, entity: str, now: Definition) -> str:
        """Notes that records are indexed again by this definition; returns the run's state."""
        state = uuid4().hex
        self._add(connection, entity, now, state)
        self._set(connection, entity, definition=now, state=state)
        self._curation.note_change(connection)
        return state

    def complete(self, connection: Connection, entity: str, state: str) -> bool:
        """Notes that all records are; False where others have written by another definition, or begun, meanwhile."""
        table = self._table
        own = table.update().where(table.c.entity_name == entity, table.c.state == state)
        is_complete = connection.execute(own.values(state=COMPLETE, updated_at=datetime.now(UTC))).rowcount > 0
        self._curation.note_change(connection)
        return is_complete

    def _note_first(self, connection: Connection, entity: str, now: Definition, version: str) -> None:
        """Adds a class, unless the index has records of it that nothing is known about, as after an import."""
        if entity in self._store.contents.entities(connection):
            self._remember(connection, entity, version, is_altered=True)
            return
        self._add(connection, entity, now, COMPLETE)
        self._keep(connection, entity)

    def _add(self, connection: Connection, entity: str, now: Definition, state: str) -> None:
        moment = datetime.now(UTC)
        row = {"entity_name": entity, "definition": now, "state": state, "created_at": moment, "updated_at": moment}
        self._store.schema.add_class(connection, row)

    def _set(self, connection: Connection, entity: str, **values: Any) -> None:
        table = self._table
        own = table.update().where(table.c.entity_name == entity)
        connection.execute(own.values(**values, updated_at=datetime.now(UTC)))
        self._keep(connection, entity)

    def _keep(self, connection: Connection, entity: str) -> None:
        """What this transaction has noted is known once another one reads it, for it may be rolled back."""
        if (current := connection.get_transaction()) is not None:
            self._noted[entity] = weakref.ref(current)

    def _remember(self, connection: Connection, entity: str, version: str, *, is_altered: bool) -> None:
        if entity in self._noted and self._noted[entity]() is connection.get_transaction():
            return
        self._noted.pop(entity, None)
        self._known[entity] = version, is_altered


def topic(entity: str) -> str:
    """Names the notice of a class."""
    return f"class {entity}"


def redefined(entity: str, standing: Standing, *, is_table: bool = False) -> str:
    """Explains why the records of a class, or a table, are to be indexed again, with the next step."""
    now, before, _ = standing
    if before is None:
        reason = f"with which options the records of {entity} were indexed is not known"
    elif before != now:
        reason = f"{entity} is declared otherwise than its records were indexed ({difference(before, now)})"
    else:
        reason = f"records of {entity} were indexed by another declaration, or not all again by this one"
    return f"{reason}: {command_of(entity, is_table=is_table)}, or search.sync(), does that"


def command_of(entity: str, *, is_table: bool) -> str:
    """The command that indexes all rows of a class, or a table."""
    name = shlex.quote(entity)
    return f"`kameleon table refresh {name}`" if is_table else f"`kameleon entity update {name} --import MODULE`"


def difference(before: Definition, now: Definition) -> str:
    """Describes what is defined otherwise: the fields with other options, else the other arguments."""
    old, new = ({field["name"]: field for field in definition["fields"]} for definition in (before, now))
    names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    if not names and list(old) != list(new):
        names = ["the order of the fields"]
    names += [name for name in ("content", "when", "tenant") if before[name] != now[name]]
    return ", ".join(names)
