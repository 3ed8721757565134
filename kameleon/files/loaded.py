"""Which files have records already, so that those that have not changed are passed over, and which records have no file
any more. Imports nothing of kameleon's."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

FILE_FIELD = "_file"
"""The field of a record that has where it was read from: folder, path, hash, and how many records the file has."""


class Loaded(NamedTuple):
    """A record that was read from a file: its id, its tenant, the file's hash and the number of its records."""

    id: str
    tenant: str
    hash: str
    records: int


@dataclass
class LoadedFiles:
    """The records of files by folder and path, and what a run finds of the folders that it reads."""

    tenant: str | None = None
    """That of all records."""
    tenant_field: str | None = None
    """The field whose value is a record's tenant, where none is given."""
    _known: dict[tuple[str, str], list[Loaded]] = field(default_factory=dict)
    _folders: dict[str, set[str]] = field(default_factory=dict)
    """By path."""
    _kept: set[tuple[str, str]] = field(default_factory=set)
    unchanged: int = 0
    """Files that are as they were."""

    def add(self, id: str, tenant: str, origin: Any) -> None:
        """Take a record with what its field `_file` has."""
        if not isinstance(origin, Mapping):
            return
        folder, path = str(origin.get("folder", "")), str(origin.get("path", ""))
        count = origin.get("records")
        loaded = Loaded(id, tenant, str(origin.get("hash")), count if isinstance(count, int) else 0)
        self._known.setdefault((folder, path), []).append(loaded)
        self._folders.setdefault(path, set()).add(folder)

    def claim(self, folder: str, path: str) -> str | None:
        """Take a path as that of a file of this folder; returns another folder that has one, if there is."""
        folders = self._folders.setdefault(path, set())
        folders.add(folder)
        return next(iter(sorted(folders - {folder})), None)

    def is_current(self, folder: str, path: str, digest: str) -> bool:
        """Whether all records of a file are those of this hash; they are kept if so."""
        current = [one for one in self._known.get((folder, path), []) if one.hash == digest]
        if not current or len(current) < current[0].records:
            return False
        self._kept.update((one.tenant, one.id) for one in current)
        self.unchanged += 1
        return True

    def keep(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Take records as those of files that are there."""
        for data in records:
            own = data.get(self.tenant_field) if self.tenant_field else None
            tenant = self.tenant if self.tenant is not None else own
            self._kept.add((str(tenant or ""), str(data["id"])))

    def keep_all(self, folder: str, path: str) -> None:
        """Keep the records of a file that cannot be read now."""
        self._kept.update((one.tenant, one.id) for one in self._known.get((folder, path), []))

    def gone(self, folders: Iterable[str]) -> Iterator[Loaded]:
        """The records of these folders whose file, or section of it, was not found."""
        named = set(folders)
        for (folder, _path), records in self._known.items():
            if folder in named:
                yield from (one for one in records if (one.tenant, one.id) not in self._kept)
