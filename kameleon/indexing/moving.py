"""Moves what the index holds of a record to another tenant. Imports `values` and `stores`."""

from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import NamedTuple

from sqlalchemy import Connection

from ..stores.protocols import Store
from ..stores.values import Entry, State
from ..values import Generation, Ref


class Move(NamedTuple):
    """A record whose row in the index is under another tenant. Its embeddings move with it where its text is the
    same."""

    old: Ref
    new: Ref
    embedded_hash: str | None
    is_same_text: bool


def located(
    connection: Connection, store: Store, wanted: Sequence[Entry], generation: Generation | None
) -> tuple[dict[Ref, State], list[Move]]:
    """The states of entries whose (entity, id) is unique, and the moves of those that are under another tenant. Where
    several rows are, the embeddings of one move."""
    entries = {entry.ref[:2]: entry for entry in wanted}
    found = dict(store.contents.located(connection, [entry.ref for entry in wanted], generation))
    states = {ref: state for ref, state in found.items() if entries[ref[:2]].ref == ref}
    moves: list[Move] = []
    kept = set(states)
    for old in sorted(found.keys() - states.keys(), key=attrgetter("key")):
        entry = entries[old[:2]]
        is_same = entry.ref not in kept and found[old].content_hash == entry.content_hash
        kept.update([entry.ref] if is_same else [])
        moves.append(Move(old, entry.ref, found[old].embedded_hash, is_same))
    return states, moves


def moved(
    connection: Connection,
    store: Store,
    wanted: Sequence[Entry],
    former: Mapping[Ref, Ref],
    generation: Generation | None,
) -> list[Move]:
    """The moves of entries to which a caller gives another tenant: `former` are their refs before, by those now."""
    states = store.contents.states(connection, list(former.values()), generation)
    hashes = {entry.ref: entry.content_hash for entry in wanted}
    moves: list[Move] = []
    for new, old in former.items():
        state = states.get(old)
        is_same = state is not None and state.content_hash == hashes[new]
        moves.append(Move(old, new, state and state.embedded_hash, is_same))
    return moves


def move(
    connection: Connection,
    store: Store,
    moves: Sequence[Move],
    docs: Mapping[Ref, int],
    generations: Sequence[Generation],
) -> list[tuple[Ref, int]]:
    """Deletes the rows under the old tenants, and gives their embeddings to the new ones, whose numbers are `docs`;
    returns what was deleted."""
    deleted = store.writes.delete(connection, [move.old for move in moves], [])
    old_docs = dict(deleted)
    same = [move for move in moves if move.is_same_text and move.old in old_docs and move.new in docs]
    rekeyed = [(move.old, old_docs[move.old], move.new, docs[move.new]) for move in same]
    for generation in generations:
        if rekeyed:
            store.embeddings.rekey(connection, generation, rekeyed)
        if deleted:
            store.embeddings.drop(connection, generation, list(old_docs.values()))
    return deleted
