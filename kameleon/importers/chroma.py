"""The records of a collection in a Chroma folder. Imports `errors` and this package."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import InvalidInput, MissingExtra
from . import Batch, Batches, one_of

TEXT = "document"
READ = ("documents", "metadatas", "embeddings")


class ChromaCollection:
    """A document is the field `document`, its metadata are fields; metadata of the names `id` and `document` get an
    underscore. `collection` may be left out where there is one."""

    def __init__(self, path: str | Path, collection: str | None = None) -> None:
        """Raises MissingExtra, and InvalidInput for what is no folder of Chroma's."""
        try:
            import chromadb
            from chromadb.config import Settings
        except ImportError as error:
            raise MissingExtra("chromadb", "chroma") from error
        if not (Path(path) / "chroma.sqlite3").is_file():
            raise InvalidInput(f"{path} is no folder of Chroma's: it has no chroma.sqlite3")
        client = chromadb.PersistentClient(str(path), settings=Settings(anonymized_telemetry=False))
        names = sorted(str(getattr(one, "name", one)) for one in client.list_collections())
        self.name = one_of(collection, names, "collection", "--collection NAME", str(path))
        self._collection = client.get_collection(self.name, embedding_function=None)
        self.count = int(self._collection.count())
        self.text = (TEXT,)

    def batches(self, size: int) -> Batches:
        for start in range(0, self.count, size):
            got = self._collection.get(include=list(READ), limit=size, offset=start)
            yield made_of(got)


def made_of(got: Mapping[str, Any]) -> Batch:
    ids = got["ids"]
    documents, metadatas, embeddings = (got[name] if got[name] is not None else [None] * len(ids) for name in READ)
    batch = Batch([], [])
    for id_, document, metadata, embedding in zip(ids, documents, metadatas, embeddings, strict=True):
        fields = {f"{name}_" if name in ("id", TEXT) else name: value for name, value in (metadata or {}).items()}
        batch.records.append({"id": id_, **({} if document is None else {TEXT: document}), **fields})
        batch.embeddings.append(embedding)
    return batch
