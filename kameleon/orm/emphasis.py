"""Reads which words of indexed records count more, of mapped classes whose fields have weights: the index has their
counts alone. Imports `values`, `stores` and `indexing`."""

import sys
from collections.abc import Sequence

from sqlalchemy import Connection

from ..indexing.entries import make_entry
from ..indexing.index import Index
from ..stores.refs import ids_by_entity
from ..stores.values import Entry
from ..values import Ref
from .callers import sessions_of
from .unindexed import is_here


def emphases(index: Index, connection: Connection, entries: Sequence[Entry]) -> dict[Ref, str]:
    """The emphasis of the index's own entries, read from the rows of the classes that this process has imported. A row
    that changed since it was indexed has none."""
    if "kameleon.orm.declaration" not in sys.modules:
        return {}
    sessions = sessions_of(index)
    found: dict[Ref, str] = {}
    for name, ids in ids_by_entity(entry.ref for entry in entries).items():
        mapped = sessions.mappings.named(name)
        if mapped is None or not mapped.has_weights or not is_here(connection, mapped):
            continue
        read = sessions.pending.read_each(connection, [Ref(name, id_) for id_ in ids], {})
        for entry in entries:
            content = read.get(Ref(name, entry.ref.id)) if entry.ref.entity == name else None
            if content is not None and make_entry(entry.ref, *content)[:3] == entry[:3]:
                found[entry.ref] = content.emphasis
    return found
