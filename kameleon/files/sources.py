"""Files and streams that records are read from, decompressed. Imports `errors`."""

import gzip
import io
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from ..errors import InvalidInput, MissingExtra, seen

GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
COMPRESSED = (".gz", ".zst")
"""Endings of names that precede compression: a file is decompressed by its first bytes, whatever its name."""


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
    def open(self) -> Iterator["Beginning"]:
        """Its bytes, decompressed. A stream that was given stays open."""
        with ExitStack() as stack:
            stream = self.stream or stack.enter_context(self._path.open("rb"))
            yield decompressed(Beginning(stream))

    @property
    def _path(self) -> Path:
        if self.path is None:
            raise InvalidInput(f"{self.name} is neither a file nor a stream")
        return self.path


def decompressed(stream: "Beginning") -> "Beginning":
    """What a gzip or zstd stream holds, of another the stream itself."""
    if stream.start(len(GZIP)) == GZIP:
        return Beginning(cast(BinaryIO, gzip.GzipFile(fileobj=stream)))
    if stream.start(len(ZSTD)) == ZSTD:
        try:
            import zstandard
        except ImportError as error:
            raise MissingExtra("zstandard", "files") from error
        return Beginning(zstandard.ZstdDecompressor().stream_reader(stream, read_across_frames=True))
    return stream


class Beginning(io.BufferedReader):
    """A binary stream whose first bytes can be looked at before they are read, also of a pipe."""

    def __init__(self, stream: Any) -> None:
        self._begun = _Begun(stream)
        super().__init__(cast(io.RawIOBase, self._begun), 1 << 16)

    def start(self, size: int) -> bytes:
        """The first `size` bytes, fewer where there are no more. Only before anything is read."""
        return self._begun.start(size)


class _Begun(io.RawIOBase):
    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._ahead = b""

    def readable(self) -> bool:
        return True

    def start(self, size: int) -> bytes:
        while len(self._ahead) < size:
            chunk = self._chunk(max(size - len(self._ahead), io.DEFAULT_BUFFER_SIZE))
            if not chunk:
                break
            self._ahead += chunk
        return self._ahead[:size]

    def readinto(self, buffer: Any) -> int:
        part = self._ahead[: len(buffer)] or self._chunk(len(buffer))
        self._ahead = self._ahead[len(part) :]
        buffer[: len(part)] = part
        return len(part)

    def _chunk(self, size: int) -> bytes:
        """What there is: a pipe is not waited for until it has so much."""
        read = getattr(self._stream, "read1", self._stream.read)
        return cast(bytes, read(size))


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
