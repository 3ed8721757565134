"""Stores query rules: which records are pinned and hidden for a query. Imports `content`, `analysis`, `errors`,
`forking`, `stores` and `values`."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import Connection

from ..analysis.analyser import analyser
from ..analysis.reading import ALTERNATIVE
from ..content import check_entity, check_id
from ..errors import InvalidInput
from ..forking import lazy
from ..stores.tables import IDS_A_STATEMENT, parts, utc
from ..stores.values import Scope
from ..values import Tenants

if TYPE_CHECKING:
    from .index import Index

MAX_PINS = 100
"""Bounds the pinned records of a rule or a query: a first page or more. Chosen, not measured."""
MAX_HIDES = 1_000
"""Bounds the hidden records of a rule or a query, which are looked up by one statement: `where=` describes more.
Chosen, not measured."""
MAX_RULES = 10_000
"""Bounds the rules of a tenant, and those without one, which an engine has in memory. Chosen, not measured."""
LONGEST_QUERY = 1_000
"""Bounds the characters of a rule's query: longer ones are not compared. Chosen, not measured."""

Pair = tuple[str, str]
Words = tuple[str | tuple[str, ...], ...]


class Rule(NamedTuple):
    """The (entity, id) pairs that are pinned, in their order, and hidden for a query, of one tenant or, where it has
    none, of all that have no rule of their own for these words."""

    tenant: str
    query: str
    pinned: tuple[Pair, ...]
    hidden: tuple[Pair, ...]
    created_at: datetime
    updated_at: datetime

    @property
    def pairs(self) -> Sequence[Pair]:
        return (*self.pinned, *self.hidden)


def rule_of(row: Any) -> Rule:
    """The rule of a row of `kdb_query_rule`."""
    pinned, hidden = (tuple((entity, id_) for entity, id_ in pairs) for pairs in (row.pinned, row.hidden))
    return Rule(row.tenant, row.query, pinned, hidden, utc(row.created_at), utc(row.updated_at))


def as_json(rule: Rule) -> dict[str, Any]:
    return {"query": rule.query, "pinned": rule.pinned, "hidden": rule.hidden}


def rule_from_json(given: Mapping[str, Any]) -> Rule:
    """A rule as `as_json` gives it, made now, without a tenant. Raises ValueError, TypeError and KeyError."""
    now = datetime.now(UTC)
    pinned, hidden = (
        tuple((check_entity(entity), check_id(id_)) for entity, id_ in given[name]) for name in ("pinned", "hidden")
    )
    return Rule("", str(given["query"]), pinned, hidden, now, now)


def words_of(language: str, text: str) -> Words:
    """The words of a query as rules compare them: their terms in order, without stop words where others are left."""
    words = analyser(language).query_terms(text)
    as_one = (next((term for term in word.whole if term.startswith(ALTERNATIVE)), None) for word in words)
    return tuple(one or word.whole[:1] or word.parts for one, word in zip(as_one, words, strict=True))


words_of_rule = lru_cache(maxsize=2 * MAX_RULES)(words_of)
"""The same, kept in memory: where policies decide what a connection reads, rules are read by each query."""


class RulesByWords:
    """Of rows of `kdb_query_rule`, beside those `shared` by other tenants. Their queries are analysed when a query is
    first compared with them."""

    def __init__(self, language: str, rows: Sequence[Any], shared: "RulesByWords | None" = None) -> None:
        self._language = language
        self._rows = rows
        self._shared = shared

    def of(self, text: str) -> Mapping[str, Rule]:
        """The rules for a query of these words, by tenant."""
        if len(text) > LONGEST_QUERY or not (self._rows or (self._shared and self._shared._rows)):
            return NONE
        words = words_of(self._language, text)
        others = NONE if self._shared is None else self._shared._by_words.get(words, NONE)
        return {**others, **self._by_words.get(words, NONE)}

    @lazy
    def _by_words(self) -> Mapping[Words, Mapping[str, Rule]]:
        by_words: dict[Words, dict[str, Rule]] = {}
        for rule in map(rule_of, self._rows):
            by_words.setdefault(words_of_rule(self._language, rule.query), {})[rule.tenant] = rule
        return by_words


NONE: Mapping[str, Rule] = MappingProxyType({})
NO_RULES = RulesByWords("", ())


def read_rules(index: "Index", connection: Connection, tenants: Tenants) -> list[Rule]:
    """Those of these tenants, of all for None, by tenant and query."""
    table = index.tables.query_rules
    rows = table.select().order_by(*table.primary_key)
    if tenants is not None:
        rows = rows.where(table.c.tenant.in_(tenants))
    return [rule_of(row) for row in connection.execute(rows)]


def write_rules(index: "Index", connection: Connection, tenant: str, rules: Iterable[Rule]) -> list[Rule]:
    """Write rules of a tenant, each in place of that of the same words, and return them. Raises InvalidInput for too
    many."""
    index.curation.note_change(connection)
    language = index.store.language
    known = {words_of_rule(language, rule.query): rule for rule in read_rules(index, connection, (tenant,))}
    written = []
    for rule in rules:
        words = words_of_rule(language, rule.query)
        before = known.get(words)
        if before is not None:
            _delete(index, connection, before)
        known[words] = rule._replace(tenant=tenant, created_at=before.created_at if before else rule.created_at)
        connection.execute(index.tables.query_rules.insert(), known[words]._asdict())
        written.append(known[words])
    if len(known) > MAX_RULES:
        raise InvalidInput(
            f"rules are {MAX_RULES:,} at most for a tenant, and {MAX_RULES:,} without one: this makes {len(known):,}. "
            "Remove others first: `kameleon rules list` shows them"
        )
    return written


def delete_rule(index: "Index", connection: Connection, tenant: str, query: str) -> bool:
    """Delete a tenant's rule of the same words; False if there was none."""
    index.curation.note_change(connection)
    words = words_of(index.store.language, query)
    for rule in read_rules(index, connection, (tenant,)):
        if words_of_rule(index.store.language, rule.query) == words:
            _delete(index, connection, rule)
            return True
    return False


def missing_pairs(index: "Index", connection: Connection, rules: Iterable[Rule]) -> set[tuple[str, Pair]]:
    """Those that are not in the index, by the tenant of their rules; of rules without one those that no tenant has."""
    wanted = {(rule.tenant, pair) for rule in rules for pair in rule.pairs}
    there: set[tuple[str, Pair]] = set()
    for tenant in sorted({tenant for tenant, _ in wanted}):
        pairs = sorted(pair for own, pair in wanted if own == tenant)
        for part in parts(pairs, IDS_A_STATEMENT):
            entities, ids = (tuple(sorted(set(names))) for names in zip(*part, strict=True))
            scope = Scope(entities, tenants=(tenant,) if tenant else None, ids=ids)
            there.update((tenant, (ref.entity, ref.id)) for _, ref in index.store.scopes.listed(connection, scope))
    return wanted - there


def rename_entity(index: "Index", connection: Connection, name: str, new_name: str | None) -> None:
    """Rename an entity in all rules, or remove its records from them, and rules without any left."""
    table = index.tables.query_rules
    if not _naming(index, connection, name):
        return
    index.curation.note_change(connection)
    for rule in _naming(index, connection, name):  # as they are once other changes wait
        pinned, hidden = (_renamed(pairs, name, new_name) for pairs in (rule.pinned, rule.hidden))
        _delete(index, connection, rule)
        if pinned or hidden:
            changed = rule._replace(pinned=pinned, hidden=hidden, updated_at=datetime.now(UTC))
            connection.execute(table.insert(), changed._asdict())


def _naming(index: "Index", connection: Connection, entity: str) -> list[Rule]:
    """The rules that pin or hide records of an entity."""
    return [rule for rule in read_rules(index, connection, None) if any(one == entity for one, _ in rule.pairs)]


def _renamed(pairs: Iterable[Pair], name: str, new_name: str | None) -> tuple[Pair, ...]:
    renamed = ((new_name if entity == name else entity, id_) for entity, id_ in pairs)
    return tuple((entity, id_) for entity, id_ in renamed if entity is not None)


def _delete(index: "Index", connection: Connection, rule: Rule) -> None:
    table = index.tables.query_rules
    connection.execute(table.delete().where(table.c.tenant == rule.tenant, table.c.query == rule.query))
