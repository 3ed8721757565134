"""The rows of a PostgreSQL table that has a column of pgvector's. Imports `errors`, `stores` and this package."""

import json
from collections.abc import Sequence
from contextlib import closing

from sqlalchemy import Engine

from ..errors import InvalidInput
from ..stores.factory import vector_tables
from . import Batch, Batches, one_of, record_of, text_of

TEXT_TYPES = ("text", "character varying", "character")


class VectorTable:
    """Each column is a field, but the key and the vector. `key` is the primary key's column, `text` the one of a usual
    name, `vector` the only one of pgvector's, where they are left out."""

    def __init__(
        self,
        engine: Engine,
        table: str,
        *,
        schema: str | None = None,
        id: str | None = None,
        text: Sequence[str] = (),
        vector: str | None = None,
    ) -> None:
        """Raises InvalidInput for another database, and for what is no such table."""
        self._tables = vector_tables(engine)
        self._engine, self.name, self._schema = engine, table, schema
        with engine.connect() as connection:
            types = self._tables.columns_of(connection, table, schema)
            keys = [id] if id is not None else self._tables.key_of(connection, table, schema)
            if not types:
                raise InvalidInput(f"there is no table {table!r:.80} in this database")
            self.count = self._tables.count_rows(connection, table, schema)
        vectors = [name for name, type_ in types.items() if type_.partition("(")[0] in ("vector", "halfvec")]
        self._vector = one_of(vector, vectors, "vector", "--vector NAME", table)
        others = [name for name in types if name not in vectors]
        self._id = one_of(keys[0] if len(keys) == 1 else None, others, "key", "--id NAME", table)
        self._fields = [name for name in others if name != self._id and types[name] != "bytea"]
        texts = [name for name in self._fields if types[name].partition("(")[0] in TEXT_TYPES]
        self.text = text_of(text, self._fields, texts, table)

    def batches(self, size: int) -> Batches:
        names = [self._id, *self._fields]
        with (
            self._engine.connect() as connection,
            closing(self._tables.read_rows(connection, self.name, self._schema, names, self._vector, size)) as pages,
        ):
            for rows in pages:
                batch = Batch([], [])
                for *values, vector in rows:
                    id_, *fields = values
                    batch.records.append(record_of(id_, dict(zip(self._fields, fields, strict=True))))
                    batch.embeddings.append(None if vector is None else json.loads(vector))
                yield batch
