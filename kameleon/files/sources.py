"""Files and streams that records are read from. Imports `errors`."""

import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from ..errors import InvalidInput, seen
from .streams import Beginning, decompressed

COMPRESSED = (".gz", ".zst")
"""Endings of names of compressed files, before which the format's is. Compression is found by the first bytes."""


@dataclass(frozen=True, slots=True)
class Source:
    """A file at `path` or an open `stream`; `name` is what messages call it, `root` the folder it was found in."""

    name: str
    path: Path | None = None
    stream: BinaryIO | None = None
    root: Path | None = None

    @property
    def suffix(self) -> str:
        """The ending of its name without those of compression, in lower case, such as `.csv`."""
        path = Path(self.name.lower())
        return Path(path.stem).suffix if path.suffix in COMPRESSED else path.suffix

    @property
    def is_file(self) -> bool:
        """Whether it can be opened again: not so a stream, or a named pipe."""
        return self.path is not None and self.path.is_file()

    @property
    def is_folder(self) -> bool:
        return self.path is not None and self.path.is_dir()

    @property
    def folder(self) -> str:
        """The name of the folder that it was found in, "" of a file that was named by itself."""
        return self.root.resolve().name if self.root is not None else ""

    @property
    def relative(self) -> str:
        """Its path below that folder, the name of a file that was named by itself, "" of a stream."""
        if self.path is None:
            return ""
        return (self.path.relative_to(self.root) if self.root is not None else Path(self.path.name)).as_posix()

    @contextmanager
    def open(self) -> Iterator[Beginning]:
        """Its bytes, decompressed. A stream that was given stays open."""
        with ExitStack() as stack:
            stream = self.stream or stack.enter_context(self._path.open("rb"))
            yield decompressed(stream if isinstance(stream, Beginning) else Beginning(stream))

    @property
    def _path(self) -> Path:
        if self.path is None:
            raise InvalidInput(f"{self.name} is neither a file nor a stream")
        return self.path


def sources(given: "str | os.PathLike[str] | BinaryIO | Iterable[str | os.PathLike[str]]") -> Iterator[Source]:
    """The sources of a path, a stream or several paths. Raises InvalidInput for a path that is not there."""
    if isinstance(given, str | os.PathLike):
        yield from of_path(Path(given))
    elif hasattr(given, "read"):
        yield Source(str(getattr(given, "name", "stream")), stream=cast(BinaryIO, given))
    else:
        for path in given:
            yield from of_path(Path(path))


def of_path(path: Path) -> Iterator[Source]:
    if not path.exists():
        raise InvalidInput(f"no file {seen(str(path))}")
    yield Source(str(path), path=path)
