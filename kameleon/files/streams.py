"""Binary streams that are decompressed, recoded or looked at before they are read. Imports `errors`."""

import codecs
import gzip
import io
from collections.abc import Callable
from typing import Any, BinaryIO, cast

from ..errors import MissingExtra
from .items import CHUNK

GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
ZSTD_READ = 1 << 9
"""Bounds the bytes of zstd that are decompressed at once, and with them what they may grow to: four bytes may be 128 kB
of one character."""


class Beginning(io.BufferedReader):
    """A binary stream whose first bytes can be looked at before they are read, also of a pipe."""

    def __init__(self, stream: Any) -> None:
        self._begun = _Begun(stream)
        super().__init__(cast(io.RawIOBase, self._begun), 1 << 16)

    def start(self, size: int, is_enough: Callable[[bytes], bool] = lambda _part: False) -> bytes:
        """The first `size` bytes, fewer where there are no more or where these are enough, so that a pipe is not waited
        for. Only before anything is read."""
        return self._begun.start(size, is_enough)


class _Chunks(io.RawIOBase):
    """A stream of what `_chunk` gives, b"" at the end."""

    def __init__(self) -> None:
        self._ahead = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        part = self._ahead[: len(buffer)] or self._chunk(len(buffer))
        if len(part) > len(buffer):
            part, self._ahead = part[: len(buffer)], part
        self._ahead = self._ahead[len(part) :]
        buffer[: len(part)] = part
        return len(part)

    def _chunk(self, size: int) -> bytes:
        raise NotImplementedError


class _Begun(_Chunks):
    def __init__(self, stream: Any) -> None:
        super().__init__()
        self._read = getattr(stream, "read1", stream.read)

    def start(self, size: int, is_enough: Callable[[bytes], bool]) -> bytes:
        held = bytearray(self._ahead)
        while len(held) < size and not is_enough(bytes(held)):
            chunk = self._chunk(max(size - len(held), io.DEFAULT_BUFFER_SIZE))
            if not chunk:
                break
            held += chunk
        self._ahead = bytes(held)
        return self._ahead[:size]

    def _chunk(self, size: int) -> bytes:
        """What there is: a pipe is not waited for until it has so much."""
        return cast(bytes, self._read(size))


class Changed(_Chunks):
    """A stream of which every part is changed. `change` takes a part, and whether it is the end."""

    def __init__(self, stream: BinaryIO, change: Callable[[bytes, bool], bytes], begun: bytes = b"") -> None:
        super().__init__()
        self._stream, self._change, self._begun = stream, change, begun
        self._is_end = False

    def _chunk(self, _size: int) -> bytes:
        changed = b""
        while not changed and not self._is_end:
            part, self._begun = self._begun or self._stream.read(CHUNK), b""
            self._is_end = not part
            changed = self._change(part, self._is_end)
        return changed


def recoded(stream: BinaryIO, encoding: str, begun: bytes = b"") -> BinaryIO:
    """The stream, after what was `begun` of it, in UTF-8. Reading it raises OSError for what is not of the encoding."""
    decode = codecs.getincrementaldecoder(encoding)().decode

    def change(part: bytes, is_end: bool) -> bytes:
        try:
            return decode(part, is_end).encode("utf-8", "surrogatepass")
        except UnicodeDecodeError as error:
            name = "UTF-16" if encoding.startswith("utf-16") else encoding
            raise OSError(f"not {name}: {error.reason}") from error

    return cast(BinaryIO, io.BufferedReader(Changed(stream, change, begun)))


def pass_line(stream: Any, raw: bytes, keep_rest: bool) -> BinaryIO | None:
    """Read on to the end of a line that begins with `raw`; returns the rest, if it is kept."""
    from tempfile import TemporaryFile  # slow to load: not for `--help`

    rest = cast(BinaryIO, TemporaryFile()) if keep_rest else None  # noqa: SIM115 - the consumer of the item closes it
    while raw and not raw.endswith(b"\n"):
        raw = stream.readline(CHUNK)
        if rest is not None:
            rest.write(raw)
    if rest is not None:
        rest.seek(0)
    return rest


def decompressed(stream: Beginning) -> Beginning:
    """What a gzip or zstd stream holds, of another the stream itself."""
    if stream.start(len(GZIP)) == GZIP:
        return Beginning(gzip.GzipFile(fileobj=stream))
    if stream.start(len(ZSTD)) == ZSTD:
        return Beginning(io.BufferedReader(Changed(cast(BinaryIO, _Parts(stream)), _unzstd())))
    return stream


class _Parts:
    """A stream in parts that are small."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def read(self, _size: int) -> bytes:
        return self._stream.read(ZSTD_READ)


def _unzstd() -> Callable[[bytes, bool], bytes]:
    """What decompresses the frames of a zstd stream part by part. Raises OSError, and EOFError where one is cut."""
    try:
        import zstandard
    except ImportError as error:
        raise MissingExtra("zstandard", "files") from error
    frame = zstandard.ZstdDecompressor().decompressobj()
    is_within = False

    def change(part: bytes, is_end: bool) -> bytes:
        nonlocal frame, is_within
        found = []
        try:
            while part:
                found.append(frame.decompress(part))
                is_within, part = not frame.eof, b""
                if frame.eof:
                    part, frame = frame.unused_data, zstandard.ZstdDecompressor().decompressobj()
        except zstandard.ZstdError as error:
            raise OSError(f"not zstd: {error}") from error
        if is_end and is_within:
            raise EOFError("the compressed file ends within a frame")
        return found[0] if len(found) == 1 else b"".join(found)

    return change
