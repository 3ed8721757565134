"""Checks of the database and of its registry of generations. Imports `values`, `stores` and `reindex`."""

from collections.abc import Iterator

from ..reindex.generations import Reindexing
from ..stores.catalog import mismatch
from ..stores.values import Fault
from ..values import Generation
from .findings import Finding
from .scan import Scan


def faults(scan: Scan) -> Iterator[Finding]:
    found = _faults(scan)
    if any(fault.check == "hidden" for fault in found):
        scan.fix = False
    fix = scan.fix
    if fix and found:
        if any(fault.check == "invalid-index" for fault in found):
            scan.index.index_vectors()
        for fault in _faults(scan):
            with scan.store.connections.translating():
                scan.store.health.mend(fault)
    left = {(fault.check, fault.name) for fault in _faults(scan)} if fix else set()
    for fault in found:
        ids = (fault.name,) if fault.name else ()
        is_fixed = fix and (fault.check, fault.name) not in left
        yield Finding(fault.check, "", 1, fault.message, fault.cure, fault.severity, ids, is_fixed)


def _faults(scan: Scan) -> list[Fault]:
    with scan.index.reading() as connection:
        found = scan.store.health.faults(connection, has_provider=scan.index.services.provider is not None)
        found += scan.store.policies.faults(connection)
        found += scan.store.health.keyword_faults(connection)
    with scan.index.reading() as connection:
        return found + scan.store.health.index_faults(connection)


def registry(scan: Scan) -> Iterator[Finding]:
    generations, provider = scan.index.generations(), scan.index.services.provider
    scan.index.services.learn(generations)
    if provider is not None and not isinstance(provider, str) and (problem := mismatch(generations, provider)):
        yield Finding("wrong-generation", "", 1, problem, "give SearchEngine the index's own provider")
    for generation in scan.generations(with_table=False):
        name = table_name(scan, generation.number)
        message = f"generation {generation.number} ({generation.model_name}) has no table {name} of embeddings"
        cure = "`kameleon doctor --fix` makes an empty one, `kameleon embeddings sync` fills it"
        is_fixed = scan.fix and _restored(scan, generation)
        yield Finding("wrong-generation", "", 1, message, cure, ids=(name,), is_fixed=is_fixed)
    with scan.index.reading() as connection:
        pruned = {generation.number for generation in scan.index.catalog.dropped(connection)}
    tables = scan.tables()
    yield from _unpruned(scan, tables & pruned)
    for number in sorted(tables - pruned - {generation.number for generation in generations}):
        name = table_name(scan, number)
        message = f"no generation is registered for the table {name}, so the model of its embeddings is not known"
        cure = f"restore its row of {scan.store.tables.generations.name}, or DROP TABLE {name};"
        yield Finding("wrong-generation", "", 1, message, cure, ids=(name,))


def _unpruned(scan: Scan, numbers: set[int]) -> Iterator[Finding]:
    dropped = set[int]()
    if scan.fix and numbers:
        dropped = {made.number for made in scan.index.part(Reindexing).drop_tables().dropped}
    cure = "`kameleon doctor --fix` or `kameleon embeddings prune` drops it, once no transaction may be reading it"
    for number in sorted(numbers):
        name = table_name(scan, number)
        message = f"{name} is left of generation {number}, which was pruned"
        ids = (name,)
        yield Finding("unpruned", "", 1, message, cure, "warning", ids, is_fixed=number in dropped)


def _restored(scan: Scan, generation: Generation) -> bool:
    with scan.index.transaction() as connection:
        if scan.store.vectors.refusal(connection, generation.dimensions):
            return False
        scan.store.schema.lock_registry(connection)
        if generation.number not in scan.store.schema.embedding_tables(connection):
            scan.store.schema.restore_generation(connection, generation)
    return True


def table_name(scan: Scan, number: int) -> str:
    return scan.store.tables.names.embeddings(number)
