"""Private attributes of SQLAlchemy mean what `kameleon.sqlalchemy_internals` takes them for."""

import pytest
from sqlalchemy import QueuePool, create_engine

from kameleon.sqlalchemy_internals import commits_each_statement, has_room


@pytest.mark.parametrize(("max_overflow", "wanted"), [(0, [True, False]), (1, [True, True]), (-1, [True, True])])
def test_a_pool_has_room_up_to_its_size_and_overflow(max_overflow: int, wanted: list[bool]) -> None:
    engine = create_engine("sqlite://", poolclass=QueuePool, pool_size=1, max_overflow=max_overflow)
    assert isinstance(engine.pool, QueuePool)
    found = [has_room(engine.pool)]
    with engine.connect():
        found.append(has_room(engine.pool))
    assert found == wanted


def test_a_connection_of_an_autocommit_engine_commits_each_statement() -> None:
    for options, wanted in [({}, False), ({"isolation_level": "AUTOCOMMIT"}, True)]:
        with create_engine("sqlite://", **options).connect() as connection:
            assert commits_each_statement(connection) is wanted
            changed = connection.execution_options(isolation_level="AUTOCOMMIT")
            assert commits_each_statement(changed)
