"""`field:word` of fields that the keyword index holds: the records with the word in the field. Of other fields, filters
look for it. Imports `content`, `stores` and `keywords`."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from sqlalchemy import Connection

from ..content import items_of, join
from ..keywords.looking_up import Found
from ..stores.catalog import DeclaredField, Entity
from ..stores.protocols import Store
from .query import Query
from .sources import searched

FieldWords = Sequence[tuple[str, str]]
"""A field and the words that it must have."""


def indexed(query: Query, entities: Mapping[str, Entity]) -> FieldWords:
    """Those whose fields the keyword index has, as they are, of every searched entity that has them; none where rows of
    tables are searched with these."""
    if not query.has_stored or query.of_classes:
        return ()
    fields = [field for entity in searched(query, entities) for field in entity.fields]
    others = {field.name for field in fields if not is_in_keywords(field)}
    names = {field.name for field in fields} - others
    return [(field, words) for field, words in query.parsed.fields if field in names]


def is_in_keywords(field: DeclaredField) -> bool:
    return field.search is not None and field.search.index != "vector" and not field.search.html


def having(store: Store, connection: Connection, found: Found, wanted: FieldWords) -> Found:
    """What was found of the records with these words in these fields. Each record that has them at all is read."""
    if found.required is None:
        return found
    docs: list[int] = found.ranking.docs(np.flatnonzero(found.required)).tolist()
    for field, words in wanted:
        values = store.records.values_of(connection, docs, [field])
        contents = {doc: join([items_of(value)]) for doc, value in values.items()}
        docs = [doc for doc, content in contents.items() if found.has_phrase(content, words)]
    return replace(found, required=found.ranking.mask(np.array(docs, "<i8")))
