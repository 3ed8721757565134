"""The records of a LanceDB table. Imports `errors` and this package."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import InvalidInput, MissingExtra
from . import Batch, Batches, one_of, record_of, text_of


class LanceTable:
    """Each column is a field, but `id`, which is the record's key, and `vector`. Columns may be left out where there is
    one that they can be; so may the table."""

    def __init__(
        self,
        path: str | Path,
        table: str | None = None,
        *,
        id: str | None = None,
        text: Sequence[str] = (),
        vector: str | None = None,
    ) -> None:
        """Raises MissingExtra and InvalidInput."""
        try:
            import lancedb
        except ImportError as error:
            raise MissingExtra("lancedb", "lancedb") from error
        if not Path(path).is_dir():
            raise InvalidInput(f"there is no folder {path}")
        names = sorted(each.stem for each in Path(path).glob("*.lance"))
        self.name = one_of(table, names, "table", "--table NAME", str(path))
        self._table = lancedb.connect(str(path)).open_table(self.name)
        types = {field.name: str(field.type) for field in self._table.schema}
        vectors = [name for name, type_ in types.items() if type_.startswith("fixed_size_list")]
        self._vector = one_of(vector, vectors, "vector", "--vector NAME", self.name)
        named = id or ("id" if "id" in types else None)
        self._id = one_of(named, [name for name in types if name not in vectors], "key", "--id NAME", self.name)
        fields = [name for name in types if name not in (*vectors, self._id)]
        texts = [name for name in fields if "string" in types[name]]
        self.text = text_of(text, fields, texts, self.name)
        self._fields = fields
        self.count = int(self._table.count_rows())

    def batches(self, size: int) -> Batches:
        for read in self._table.search().to_batches(size):
            columns: dict[str, list[Any]] = read.to_pydict()
            batch = Batch([], list(columns[self._vector]))
            for place, id_ in enumerate(columns[self._id]):
                batch.records.append(record_of(id_, {name: columns[name][place] for name in self._fields}))
            yield batch
