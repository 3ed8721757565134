"""A session's pending changes, compared with a plain list of changes and the savepoints around them."""

from hypothesis import given
from hypothesis import strategies as st

from kameleon.orm.pending import DROP, LOAD, Change, Put, Queue
from kameleon.values import Ref

A, B = Ref("E", "a"), Ref("E", "b")


class Savepoint:
    is_active = True


def mark(queue: Queue) -> Savepoint:
    savepoint = Savepoint()
    queue.mark()
    queue.bind(savepoint)
    return savepoint


def test_the_last_change_of_a_record_wins() -> None:
    queue = Queue()
    queue.put(A, "first")
    queue.drop(B)
    queue.put(A, "second", "emphasis")
    queue.load(B)
    assert queue.pending() == {A: Put("second", "emphasis"), B: LOAD}


def test_a_rollback_forgets_what_came_after_its_savepoint_and_later_ones() -> None:
    queue = Queue()
    queue.put(A, "kept")
    one = mark(queue)
    queue.put(A, "gone")
    two = mark(queue)
    queue.drop(B)
    queue.cut(one)
    assert two.is_active
    assert queue.pending() == {A: Put("kept")}


def test_a_savepoint_from_before_the_first_change_takes_all_with_it() -> None:
    queue = Queue()
    queue.put(A, "gone")
    queue.cut(Savepoint())
    assert queue.pending() == {}


def test_a_release_hands_on_the_changes_of_its_savepoint() -> None:
    queue = Queue()
    queue.drop(A)
    one = mark(queue)
    queue.put(A, "new")
    queue.release(one)
    queue.release(Savepoint())
    assert queue.pending() == {A: Put("new")}


def test_what_was_written_is_not_pending_any_more() -> None:
    queue = Queue()
    queue.put(A, "x")
    queue.settle(queue.pending())
    assert queue.pending() == {}


def test_what_was_written_inside_a_savepoint_is_pending_again_when_that_is_rolled_back() -> None:
    queue = Queue()
    queue.drop(A)
    one = mark(queue)
    queue.put(A, "new")
    queue.settle(queue.pending())
    assert queue.pending() == {}
    queue.cut(one)
    assert queue.pending() == {A: DROP}


def test_what_was_written_inside_a_savepoint_stays_so_when_that_is_released() -> None:
    queue = Queue()
    queue.drop(A)
    one = mark(queue)
    queue.put(A, "new")
    queue.settle(queue.pending())
    queue.release(one)
    assert queue.pending() == {}


steps = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.sampled_from([A, B]), st.text(max_size=2)),
        st.tuples(st.just("drop"), st.sampled_from([A, B])),
        st.tuples(st.sampled_from(["mark", "cut", "release", "write", "slice"])),
    ),
    max_size=30,
)


@given(steps)
def test_writes_at_any_time_leave_the_last_changes_in_the_database(given: list[tuple[object, ...]]) -> None:
    """`rows` is the database, which also loses what was written inside a savepoint that is rolled back."""
    queue = Queue()
    expected: dict[Ref, Change] = {}
    rows: dict[Ref, Change] = {}
    savepoints: list[tuple[Savepoint, dict[Ref, Change], dict[Ref, Change]]] = []
    for step, *arguments in given:
        if step == "put":
            queue.put(*arguments)  # type: ignore[arg-type]
            expected[arguments[0]] = Put(arguments[1])  # type: ignore[index, arg-type]
        elif step == "drop":
            queue.drop(*arguments)  # type: ignore[arg-type]
            expected[arguments[0]] = DROP  # type: ignore[index]
        elif step == "mark":
            savepoints.append((mark(queue), dict(expected), dict(rows)))
        elif step == "write":
            rows |= written(queue)
        elif step == "slice":
            queue.load_slice("E", ["a", "b"])
            expected |= {A: LOAD, B: LOAD}
        elif savepoints:
            savepoint, *before = savepoints.pop()
            if step == "cut":
                expected, rows = before
                queue.cut(savepoint)
            else:
                queue.release(savepoint)
            savepoint.is_active = False
    rows |= written(queue)
    assert rows == expected


def written(queue: Queue) -> dict[Ref, Change]:
    changes = queue.pending()
    for made in queue.slices():
        changes |= dict.fromkeys(queue.refs_of(made), LOAD)
    queue.settle(changes, queue.slices())
    assert (queue.pending(), queue.slices()) == ({}, [])
    return changes


def test_savepoints_that_end_out_of_order_take_the_later_ones_along() -> None:
    queue = Queue()
    outer = mark(queue)
    queue.put(A, "gone")
    inner = mark(queue)
    queue.cut(inner)
    outer.is_active = False
    queue.bind(inner)
    assert queue.pending() == {}


def test_a_savepoint_that_could_not_be_set_is_none() -> None:
    queue = Queue()
    outer = mark(queue)
    queue.mark()
    queue.bind(outer)
    queue.put(A, "kept")
    queue.release(outer)
    assert queue.pending() == {A: Put("kept")}
