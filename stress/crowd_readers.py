"""The processes of a crowd that search: each answer is checked for partial batches and mixed generations."""

import re
from typing import Any

from kameleon.values import SearchResults

from .crowd_members import COUNTERS, GROUPS, MEMBERS, WORDS, Member

VERSION = re.compile(r"version(\w+)")


class Reader(Member):
    def work(self) -> None:
        checks = [self.check_group] * 6 + [self.check_two, self.check_pages, self.check_where, self.check_similar]
        checks += [self.check_suggest] * 2
        if self.n % 50 == 0:
            checks = [self.check_status]
        self.chance.choice(checks)()

    def searched(self, query: str, mode: str = "hybrid", **options: Any) -> SearchResults:
        with self.outcome.timed(f"search {mode}"):
            found = self.search.search(query, mode=mode, explain=True, **options)
        check_hits(found)
        return found

    def check_group(self) -> None:
        group = self.chance.randrange(GROUPS)
        mode = self.chance.choice(["keyword", "keyword", "hybrid", "vector"])
        query = f"group{group}" if mode != "vector" else self.sentence()
        found = self.searched(query, mode, entity="Shared", limit=50)
        versions_by_group: dict[str, list[str]] = {}
        for hit in found:
            version = VERSION.search(hit.matched_text)
            assert version is not None, hit
            versions_by_group.setdefault(hit.matched_text.split()[0], []).append(version[1])
        for name, versions in versions_by_group.items():
            assert len(set(versions)) == 1, (
                f"a partial batch is visible: {name} has the versions {sorted(set(versions))}"
            )
        if mode == "keyword":
            count = len(versions_by_group.get(f"group{group}", []))
            assert count in (0, MEMBERS), f"a partial batch is visible: {count} of group{group}"

    def check_two(self) -> None:
        """Two searches of one transaction see the same."""
        group = self.chance.randrange(GROUPS)
        with self.engine.connect() as connection:
            if self.engine.dialect.name == "postgresql":
                connection = connection.execution_options(isolation_level="REPEATABLE READ")
            first, second = (
                self.searched(f"group{group}", mode, entity="Shared", limit=MEMBERS, connection=connection)
                for mode in ("keyword", "hybrid")
            )
        texts = {hit.id: hit.matched_text for hit in first}
        for hit in second:
            assert texts.get(hit.id, hit.matched_text) == hit.matched_text, f"one transaction saw two texts of {hit.id}"

    def check_pages(self) -> None:
        word, seen, cursor = self.chance.choice(WORDS), list[str](), None
        for _ in range(6):
            page = self.searched(word, "keyword", entity="Page", limit=10, cursor=cursor)
            seen += [hit.id for hit in page]
            if (cursor := page.cursor) is None:
                break
        assert len(set(seen)) == len(seen), "a page repeats hits of an earlier one"

    def check_where(self) -> None:
        writer = self.chance.randrange(8)
        found = self.searched(
            self.chance.choice(WORDS), entity="Ticket", where={"writer": writer}, limit=10, count=True
        )
        assert all(hit.data and hit.data["writer"] == writer for hit in found), "a hit is not of the filter"

    def check_similar(self) -> None:
        id_ = str(self.chance.randint(1, COUNTERS))
        with self.outcome.timed("similar"):
            found = self.search.similar("Counter", id_, limit=5)
        check_hits(found)
        assert id_ not in [hit.id for hit in found]

    def check_suggest(self) -> None:
        with self.outcome.timed("suggest"):
            found = self.search.suggest("counte", limit=100)
        assert "counter" in found, found

    def check_status(self) -> None:
        with self.outcome.timed("status"):
            status = {each.entity: each.indexed for each in self.search.get_status()}
        assert status["Counter"] == COUNTERS
        assert status.get("Shared", 0) % MEMBERS == 0, f"a partial batch is counted: {status['Shared']}"


def check_hits(found: SearchResults) -> None:
    scores = [hit.score for hit in found]
    assert all(0 <= score <= 1 for score in scores), scores
    assert scores == sorted(scores, reverse=True), scores
    legs = [score for hit in found for score in hit.explanation if score.leg == "vector"]
    assert {score.generation for score in legs} <= {found.plan.generation}, "a search mixes two models"
