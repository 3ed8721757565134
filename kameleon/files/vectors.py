"""Takes the embeddings out of records that were read from a file or another database. Imports `errors`."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ..errors import InvalidRecord, seen

EMBEDDING = "embedding"
PASSAGES, MODEL = "_passages", "_model"
"""Follow the name of the field that has the embedding, where an export has more of it."""


class Split(NamedTuple):
    """Records without their embeddings, the embeddings one a record, and the models that are named beside them."""

    records: list[Mapping[str, Any]]
    embeddings: list[Any]
    models: set[str]

    @property
    def dimensions(self) -> int | None:
        """Of the first embedding that is a list; None where there is none."""
        for found in self.embeddings:
            first = found[0].get("embedding") if found and isinstance(found[0], dict) else found
            if isinstance(first, list) and first:
                return len(first)
        return None


def split_embeddings(records: Sequence[Mapping[str, Any]], field: str = EMBEDDING) -> Split:
    """`field` has a list of numbers, or JSON of one; null is none. An export has the passages of long texts beside it,
    and the model. Raises InvalidRecord with the position of a record that has another value."""
    made = Split([], [], set())
    names = field, f"{field}{PASSAGES}", f"{field}{MODEL}"
    for position, record in enumerate(records):
        if field not in record:
            has = ", ".join(record) or "nothing"
            raise InvalidRecord(f"no {field!r:.80}, which --embeddings names; it has {has:.80}", position=position)
        try:
            whole, passages = (parsed(record.get(name)) for name in names[:2])
        except (ValueError, RecursionError) as error:
            raise InvalidRecord(f"{field!r:.80} is no list of numbers: {error}", position=position) from error
        made.embeddings.append(passages or whole)
        made.records.append({name: value for name, value in record.items() if name not in names})
        if (model := record.get(names[2])) is not None:
            made.models.add(str(model))
    return made


def parsed(value: Any) -> Any:
    """A list, of a text that is JSON too; None for null and an empty text. Raises ValueError."""
    if isinstance(value, str):
        text = value.strip()
        value = json.loads(text) if text else None
    if value is None or isinstance(value, list | tuple):
        return value if value is None else list(value) or None
    if hasattr(value, "tolist"):
        return value.tolist()
    raise ValueError(f"it is {seen(value, 60)}")
