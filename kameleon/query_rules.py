"""Query rules, `search.rules`: which records are pinned and hidden for a query. Imports `values`, `errors`, `content`,
`indexing`, `search` and `orm`."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from sqlalchemy import Connection

from .content import check_tenants
from .errors import InvalidInput, seen
from .indexing.rules import (
    LONGEST_QUERY,
    MAX_HIDES,
    MAX_PINS,
    Pair,
    Rule,
    delete_rule,
    missing_pairs,
    read_rules,
    words_of,
    write_rules,
)
from .orm.callers import TenantCalls, connection_within, on_a_thread
from .orm.queries import Queries
from .search.checks import check_text
from .search.given_refs import RefReader
from .search.syntax import parse

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session


@dataclass(frozen=True, slots=True)
class QueryRule:
    """The records, by entity and id, that are pinned in their order and hidden for a query; those `missing` are not in
    the index. A rule without a tenant is for each that has none for these words."""

    query: str
    pinned: tuple[Pair, ...] = ()
    hidden: tuple[Pair, ...] = ()
    tenant: str = ""
    missing: tuple[Pair, ...] = ()
    created_at: datetime | None = None
    updated_at: datetime | None = None


Listed = list[QueryRule]


class QueryRules(TenantCalls):
    """Kept with the index. A change has effect in every process with the next search that begins after its commit."""

    def set(
        self,
        query: str,
        *,
        pin: Iterable[object] = (),
        hide: Iterable[object] = (),
        tenant: object = None,
        connection: Connection | None = None,
        session: "Session | None" = None,
    ) -> QueryRule:
        """Pin records, in their order, and hide others for queries of the same words, whatever their case, accents,
        endings and stop words; replaces the tenant's rule for them. Records are (entity, id) pairs, hits or refs, and
        need not be there. A record that is both is hidden."""
        name, text = self._named(tenant), self._checked(query)
        pinned, hidden = self._pairs("pin", pin, MAX_PINS, name), self._pairs("hide", hide, MAX_HIDES, name)
        if not (pinned or hidden):
            raise InvalidInput("a rule pins or hides a record at least: give pin= or hide=, or remove it")
        now = datetime.now(UTC)
        rule = Rule(name, text, pinned, hidden, now, now)
        return self._written(partial(self._set, rule), tenant, connection, session, "aset")

    def list(
        self, *, tenant: object = None, connection: Connection | None = None, session: "Session | None" = None
    ) -> Listed:
        """Those of a tenant, of several or of `kameleon.ALL_TENANTS`, by tenant and query; of those without one where
        none is given."""
        tenants = check_tenants(self._named(tenant) if self._tenant or tenant is None else tenant)
        connection = connection_within(self._index, connection, session, "alist")
        with self._index.reading(connection, tenants or ()) as conn:
            return self._shown(conn, read_rules(self._index, conn, tenants))

    def remove(
        self,
        query: str,
        *,
        tenant: object = None,
        connection: Connection | None = None,
        session: "Session | None" = None,
    ) -> bool:
        """Remove the tenant's rule for these words; False if there was none."""
        return self._written(partial(self._remove, self._checked(query)), tenant, connection, session, "aremove")

    async def aset(
        self,
        query: str,
        *,
        pin: Iterable[object] = (),
        hide: Iterable[object] = (),
        tenant: object = None,
        session: "AsyncSession | None" = None,
    ) -> QueryRule:
        """`set` for coroutines, in the transaction of a `session`."""
        return await on_a_thread(self._index, partial(self.set, query, pin=pin, hide=hide, tenant=tenant), session)

    async def alist(self, *, tenant: object = None, session: "AsyncSession | None" = None) -> Listed:
        """`list`, as `aset`."""
        return await on_a_thread(self._index, partial(self.list, tenant=tenant), session)

    async def aremove(self, query: str, *, tenant: object = None, session: "AsyncSession | None" = None) -> bool:
        """`remove`, as `aset`."""
        return await on_a_thread(self._index, partial(self.remove, query, tenant=tenant), session)

    def _set(self, rule: Rule, connection: Connection, tenant: str) -> QueryRule:
        return self._shown(connection, write_rules(self._index, connection, tenant, [rule]))[0]

    def _remove(self, query: str, connection: Connection, tenant: str) -> bool:
        return delete_rule(self._index, connection, tenant, query)

    def _checked(self, query: object) -> str:
        """The query without its operators. Raises InvalidInput where there is nothing to compare."""
        typed = check_text(query)
        parsed = parse(typed)
        text = " ".join(parsed.text.split())
        if parsed.excluded:
            raise InvalidInput(f"a rule is for the words of a query: leave out what {seen(typed)} excludes")
        if len(text) > LONGEST_QUERY:
            raise InvalidInput(f"a rule's query has {LONGEST_QUERY:,} characters at most, not {len(text):,}")
        if not words_of(self._index.store.language, text):
            raise InvalidInput(f"{seen(typed)} has no word: an empty query has no rules")
        return text

    def _pairs(self, option: str, given: object, most: int, tenant: str) -> tuple[Pair, ...]:
        refs = RefReader(lambda one: self._index.part(Queries).names([one])[0]).read(option, given, most)
        if others := [ref for ref in refs if ref.tenant not in ("", tenant)]:
            raise InvalidInput(
                f"{option} names {others[0].entity} {seen(others[0].id)} of the tenant {seen(others[0].tenant)}, and "
                f"this rule is of {seen(tenant) if tenant else 'none'}: give its tenant as tenant="
            )
        return tuple(dict.fromkeys((ref.entity, ref.id) for ref in refs))

    def _shown(self, connection: Connection, rules: Sequence[Rule]) -> Listed:
        missing = missing_pairs(self._index, connection, rules)
        return [
            QueryRule(
                rule.query,
                rule.pinned,
                rule.hidden,
                rule.tenant,
                tuple(pair for pair in rule.pairs if (rule.tenant, pair) in missing),
                rule.created_at,
                rule.updated_at,
            )
            for rule in rules
        ]
