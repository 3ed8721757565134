"""Hashes of model files, which identify a local model wherever its folder is. Imports nothing of kameleon's."""

import hashlib
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

FILES_CACHED = 256
"""Bounds the hashes that are kept. Chosen, not measured."""


def hash_of_files(paths: Iterable[Path]) -> str:
    """One hash of the files' contents, in their order, as 16 hex digits."""
    digest = hashlib.sha256()
    for path in paths:
        found = path.stat()
        digest.update(_hash_of_file(path.resolve(), found.st_size, found.st_mtime_ns, found.st_ctime_ns))
    return digest.hexdigest()[:16]


@lru_cache(FILES_CACHED)
def _hash_of_file(path: Path, _size: int, _mtime_ns: int, _ctime_ns: int) -> bytes:
    """Read once a process for each size and time of change."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
