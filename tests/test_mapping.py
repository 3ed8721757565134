"""Searchable classes alone, without an index: their contents, and threads that resolve them together."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Barrier, BrokenBarrierError

import pytest
from sqlalchemy.dialects import sqlite
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from kameleon import searchable
from kameleon.errors import InvalidRecord
from kameleon.orm.registry import Mappings


class Base(DeclarativeBase):
    pass


ERRORS: dict[int, Exception] = {1: KeyError("title"), 2: MemoryError()}


def content(note: "Note") -> str:
    raise ERRORS[note.id]


@searchable(content=content, name="MappingNote")
class Note(Base):
    __tablename__ = "mapping_note"

    id: Mapped[int] = mapped_column(primary_key=True)


class Meeting:
    """A field that two threads read from the class at the same time, if they can."""

    def __init__(self) -> None:
        self.barrier: Barrier | None = None

    def __get__(self, obj: object, owner: type) -> str:
        if self.barrier is not None:
            with suppress(BrokenBarrierError):
                self.barrier.wait(timeout=1)
        return ""


meeting = Meeting()


@searchable(fields=["text"], name="MappingPlace")
class Place(Base):
    __tablename__ = "mapping_place"

    id: Mapped[int] = mapped_column(primary_key=True)
    text = meeting


def test_an_error_of_the_applications_content_names_the_record() -> None:
    with pytest.raises(InvalidRecord, match=r"content of MappingNote \(1,\) could not be made: KeyError: 'title'"):
        Mappings(sqlite.dialect()).searchable(Note).content_of(Note(id=1))


def test_a_lack_of_memory_is_no_error_of_the_record() -> None:
    with pytest.raises(MemoryError):
        Mappings(sqlite.dialect()).searchable(Note).content_of(Note(id=2))


def test_threads_that_resolve_a_class_together_get_one_mapping(monkeypatch: pytest.MonkeyPatch) -> None:
    mappings = Mappings(sqlite.dialect())
    monkeypatch.setattr(meeting, "barrier", Barrier(2))
    with ThreadPoolExecutor(2) as threads:
        first, second = threads.map(mappings.of, [Place, Place])
    assert first is not None
    assert first is second
