"""Synonyms that are kept with the index: `search.synonyms`. Imports `errors`, `analysis`, `keywords`, `stores` and
`orm`."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from sqlalchemy import Connection, select

from .analysis.analyser import analyser
from .analysis.synonyms import SynonymRule, read_lines, read_rule
from .errors import InvalidInput
from .keywords.expanding import MAX_PARTS, side_of
from .orm.callers import TenantCalls, connection_within, on_a_thread
from .stores.tables import IDS_A_STATEMENT, parts

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session

MAX_RULES = 10_000
"""Bounds the rules of a tenant, and those without one: they are read and analysed by the first search after a change of
them. Chosen, not measured."""
Rules = list[str]


class Synonyms(TenantCalls):
    """Rules of synonyms. "nyc, new york, big apple" are words that find each other; "tablet => ipad, galaxy tab" is one
    that finds the others, too. A search has those of its `tenant` and those without one. A change has effect with the
    next search; records are not indexed again."""

    def add(
        self,
        *rules: str,
        tenant: object = None,
        connection: Connection | None = None,
        session: "Session | None" = None,
    ) -> int:
        """Add rules; returns how many were new. `connection` or `session` writes inside the caller's transaction.
        Raises InvalidInput for what is no rule, and beyond 10,000 of a tenant."""
        given = [self._checked(rule) for rule in rules]
        return self._written(partial(self._add, given), tenant, connection, session, "aadd")

    def load(
        self,
        lines: Iterable[str],
        *,
        replace: bool = False,
        tenant: object = None,
        connection: Connection | None = None,
        session: "Session | None" = None,
    ) -> int:
        """Add a rule a line, as of an open file, in one transaction; returns how many were new. Lines that begin with
        `#` are comments. With `replace` the tenant's other rules are removed. Raises InvalidInput with the line."""
        if isinstance(lines, str):
            lines = lines.splitlines()
        given = [self._checked(rule, f"line {number}: ") for number, rule in read_lines(lines)]
        return self._written(partial(self._add, given, replaces=replace), tenant, connection, session, "aload")

    def remove(
        self,
        *rules: str,
        tenant: object = None,
        connection: Connection | None = None,
        session: "Session | None" = None,
    ) -> int:
        """Remove rules, each written in any order of its sides; returns how many were there."""
        given = [str(read_rule(rule)) for rule in rules]
        return self._written(partial(self._remove, given), tenant, connection, session, "aremove")

    def list(
        self, *, tenant: object = None, connection: Connection | None = None, session: "Session | None" = None
    ) -> Rules:
        """The rules of a tenant, or those without one, in alphabetical order and their normal form."""
        name = self._named(tenant)
        connection = connection_within(self._index, connection, session, "alist")
        with self._index.reading(connection, (name,)) as conn:
            return self._kept(conn, name)

    async def aadd(self, *rules: str, tenant: object = None, session: "AsyncSession | None" = None) -> int:
        """`add` for coroutines, in the transaction of a `session`."""
        return await on_a_thread(self._index, partial(self.add, *rules, tenant=tenant), session)

    async def aload(
        self,
        lines: Iterable[str],
        *,
        replace: bool = False,
        tenant: object = None,
        session: "AsyncSession | None" = None,
    ) -> int:
        """`load`, as `aadd`."""
        return await on_a_thread(self._index, partial(self.load, lines, replace=replace, tenant=tenant), session)

    async def aremove(self, *rules: str, tenant: object = None, session: "AsyncSession | None" = None) -> int:
        """`remove`, as `aadd`."""
        return await on_a_thread(self._index, partial(self.remove, *rules, tenant=tenant), session)

    async def alist(self, *, tenant: object = None, session: "AsyncSession | None" = None) -> Rules:
        """`list`, as `aadd`."""
        return await on_a_thread(self._index, partial(self.list, tenant=tenant), session)

    def _checked(self, text: object, place: str = "") -> str:
        """A rule in its normal form. Raises InvalidInput, with its place, where the analyser finds no words in it."""
        try:
            rule = read_rule(text)
            self._check_sides(rule)
        except InvalidInput as error:
            raise InvalidInput(f"{place}{error}") from error
        return str(rule)

    def _check_sides(self, rule: SynonymRule) -> None:
        own = analyser(self._index.store.language)
        forms: dict[str, set[str]] = {}
        for text in (*rule.sources, *rule.targets):
            side = side_of(own, text)
            if side is None:
                raise InvalidInput(
                    f"{text!r:.60} has no word, or more than {MAX_PARTS}: a side of a rule has 1 to {MAX_PARTS}, or as "
                    "many characters in scripts without spaces"
                )
            forms[text] = set(side.word.whole)
        if not any(forms[one].isdisjoint(forms[other]) for one in rule.sources for other in rule.targets or forms):
            raise InvalidInput(f"{str(rule)!r:.80} has forms of one word, which find each other without a rule")

    def _add(self, rules: Sequence[str], connection: Connection, tenant: str, *, replaces: bool = False) -> int:
        self._index.curation.note_change(connection)
        table, kept = self._index.tables.synonyms, set(self._kept(connection, tenant))
        new = [rule for rule in dict.fromkeys(rules) if rule not in kept]
        if replaces:
            self._delete(sorted(kept.difference(rules)), connection, tenant)
            kept &= set(rules)
        if len(kept) + len(new) > MAX_RULES:
            raise InvalidInput(
                f"a tenant has {MAX_RULES:,} rules of synonyms at most: {len(kept):,} are there, {len(new):,} new ones "
                "are given. Remove some, or write words that find each other as one rule"
            )
        if new:
            now = datetime.now(UTC)
            connection.execute(table.insert(), [{"tenant": tenant, "rule": rule, "created_at": now} for rule in new])
        return len(new)

    def _remove(self, rules: Sequence[str], connection: Connection, tenant: str) -> int:
        self._index.curation.note_change(connection)
        return self._delete(rules, connection, tenant)

    def _delete(self, rules: Sequence[str], connection: Connection, tenant: str) -> int:
        table, count = self._index.tables.synonyms, 0
        for part in parts(rules, IDS_A_STATEMENT):
            own = table.c.tenant == tenant, table.c.rule.in_(part)
            count += connection.execute(table.delete().where(*own)).rowcount
        return count

    def _kept(self, connection: Connection, tenant: str) -> Rules:
        table = self._index.tables.synonyms
        return [*connection.scalars(select(table.c.rule).where(table.c.tenant == tenant).order_by(table.c.rule))]
