"""A session's pending changes, compared with a plain list of changes and the savepoints around them."""

from hypothesis import given
from hypothesis import strategies as st

from kameleon.content import Content
from kameleon.orm.changes import DELETED, TO_READ, Change, PendingChanges
from kameleon.values import Ref

A, B = Ref("E", "a"), Ref("E", "b")


class Savepoint:
    is_active = True


def savepoint_of(changes: PendingChanges) -> Savepoint:
    savepoint = Savepoint()
    changes.open_savepoint()
    changes.bind(savepoint)
    return savepoint


def test_the_last_change_of_a_record_wins() -> None:
    changes = PendingChanges()
    changes.upsert(A, "first")
    changes.delete(B)
    changes.upsert(A, "second", "emphasis")
    changes.read_later(B)
    assert changes.pending() == {A: Content("second", "emphasis"), B: TO_READ}


def test_a_rollback_forgets_what_came_after_its_savepoint_and_later_ones() -> None:
    changes = PendingChanges()
    changes.upsert(A, "kept")
    one = savepoint_of(changes)
    changes.upsert(A, "gone")
    two = savepoint_of(changes)
    changes.delete(B)
    changes.roll_back(one)
    assert two.is_active
    assert changes.pending() == {A: Content("kept")}


def test_a_savepoint_from_before_the_first_change_takes_all_with_it() -> None:
    changes = PendingChanges()
    changes.upsert(A, "gone")
    changes.roll_back(Savepoint())
    assert changes.pending() == {}


def test_a_release_hands_on_the_changes_of_its_savepoint() -> None:
    changes = PendingChanges()
    changes.delete(A)
    one = savepoint_of(changes)
    changes.upsert(A, "new")
    changes.release(one)
    changes.release(Savepoint())
    assert changes.pending() == {A: Content("new")}


def test_what_was_written_is_not_pending_any_more() -> None:
    changes = PendingChanges()
    changes.upsert(A, "x")
    changes.written(changes.pending())
    assert changes.pending() == {}


def test_what_was_written_inside_a_savepoint_is_pending_again_when_that_is_rolled_back() -> None:
    changes = PendingChanges()
    changes.delete(A)
    one = savepoint_of(changes)
    changes.upsert(A, "new")
    changes.written(changes.pending())
    assert changes.pending() == {}
    changes.roll_back(one)
    assert changes.pending() == {A: DELETED}


def test_what_was_written_inside_a_savepoint_stays_so_when_that_is_released() -> None:
    changes = PendingChanges()
    changes.delete(A)
    one = savepoint_of(changes)
    changes.upsert(A, "new")
    changes.written(changes.pending())
    changes.release(one)
    assert changes.pending() == {}


steps = st.lists(
    st.one_of(
        st.tuples(st.just("upsert"), st.sampled_from([A, B]), st.text(max_size=2)),
        st.tuples(st.just("delete"), st.sampled_from([A, B])),
        st.tuples(st.sampled_from(["savepoint", "roll back", "release", "write", "block"])),
    ),
    max_size=30,
)


@given(steps)
def test_writes_at_any_time_leave_the_last_changes_in_the_database(given: list[tuple[object, ...]]) -> None:
    """`rows` is the database, which also loses what was written inside a savepoint that is rolled back."""
    changes = PendingChanges()
    expected: dict[Ref, Change] = {}
    rows: dict[Ref, Change] = {}
    savepoints: list[tuple[Savepoint, dict[Ref, Change], dict[Ref, Change]]] = []
    for step, *arguments in given:
        if step == "upsert":
            changes.upsert(*arguments)  # type: ignore[arg-type]
            expected[arguments[0]] = Content(arguments[1])  # type: ignore[index, arg-type]
        elif step == "delete":
            changes.delete(*arguments)  # type: ignore[arg-type]
            expected[arguments[0]] = DELETED  # type: ignore[index]
        elif step == "savepoint":
            savepoints.append((savepoint_of(changes), dict(expected), dict(rows)))
        elif step == "write":
            rows |= written(changes)
        elif step == "block":
            changes.read_block_later("E", ["a", "b"])
            expected |= {A: TO_READ, B: TO_READ}
        elif savepoints:
            savepoint, *before = savepoints.pop()
            if step == "roll back":
                expected, rows = before
                changes.roll_back(savepoint)
            else:
                changes.release(savepoint)
            savepoint.is_active = False
    rows |= written(changes)
    assert rows == expected


def written(changes: PendingChanges) -> dict[Ref, Change]:
    pending = changes.pending()
    for block in changes.blocks():
        pending |= dict.fromkeys(changes.refs_of(block), TO_READ)
    changes.written(pending, changes.blocks())
    assert (changes.pending(), changes.blocks()) == ({}, [])
    return pending


def test_savepoints_that_end_out_of_order_take_the_later_ones_along() -> None:
    changes = PendingChanges()
    outer = savepoint_of(changes)
    changes.upsert(A, "gone")
    inner = savepoint_of(changes)
    changes.roll_back(inner)
    outer.is_active = False
    changes.bind(inner)
    assert changes.pending() == {}


def test_a_savepoint_that_could_not_be_set_is_none() -> None:
    changes = PendingChanges()
    outer = savepoint_of(changes)
    changes.open_savepoint()
    changes.bind(outer)
    changes.upsert(A, "kept")
    changes.release(outer)
    assert changes.pending() == {A: Content("kept")}
