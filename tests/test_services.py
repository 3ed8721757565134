"""Warnings about an index's model: logged and shown by `get_status`; no warnings filter turns them into exceptions."""

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import sessionmaker

from kameleon import SearchEngine
from kameleon.testing import HashProvider
from stress.workloads.models import Base, Note

from .conftest import Make


@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
def test_a_commit_with_another_model_succeeds_under_warnings_as_errors(
    make: Make, search: SearchEngine, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    search.index_record("Other", "1", "of the first model")
    Base.metadata.create_all(engine)
    other = make(HashProvider(32, model_name="other"))
    maker = other.attach(sessionmaker(engine))
    for title in ("one", "two"):
        with maker.begin() as session:
            session.add(Note(title=title, body="b"))
    warned = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warned) == 1
    assert "stay pending" in warned[0]
    assert [status.note for status in other.get_status("Note")] == [warned[0]]
