"""A weight of the vector that follows from the query: fitted, tested, kept and searched with."""

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kameleon import RecordStore, SearchEngine
from kameleon.errors import InvalidInput
from kameleon.evaluation import ENOUGH_FITTED, Fit, evaluate, keep
from kameleon.evaluation.fitting import fit_weighting, paired
from kameleon.evaluation.rankings import WEIGHTS, fused, ndcg_by_weight
from kameleon.metrics import ndcg
from kameleon.search.evidence import KeywordScale, VectorScale
from kameleon.search.fusion import Leg
from kameleon.search.retrieval import Legs
from kameleon.search.weighting import Features, Weighting, check_weighting, features_of
from kameleon.testing import HashProvider
from kameleon.values import Ref

from .conftest import Make, ids, with_citus
from .test_cli import Run, run

__all__ = ["run"]

PLAIN = Features(1.0, 0.5, 0.5, 0.5)
BY_COVERAGE = Weighting(0.5, {"coverage": -1.0}, {"coverage": 0.5})


@pytest.fixture(params=with_citus("sqlite", "postgresql"))
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Placing(HashProvider):
    """The embedding of each text is as given. By keywords the first query's first is record 1, by vectors 2; the
    second's are 4 and 3."""

    model_name = "placing"
    vector_weight = 0.5
    noise = (0.0, 0.1)
    share = 1.0
    places: Mapping[str, Sequence[float]] = {
        "red fox": [1.0, 0.0, 0.0],
        "far away, a red fox": [-1.0, 0.0, 0.0],
        "red things": [1.0, 0.0, 0.0],
        "which small amphibian is a frog": [0.0, 1.0, 0.0],
        "toads of ponds": [0.0, 1.0, 0.0],
        "the frog of a railway line": [0.0, 0.0, 1.0],
    }
    texts = tuple(places)

    def __init__(self) -> None:
        super().__init__(3)

    def embed_batch(self, texts: Sequence[str]) -> Any:
        return [self.places[text] for text in texts]

    def embed_query(self, text: str) -> Any:
        return self.places[text]

    def known_share(self, text: str) -> float:
        return self.share


RICH, POOR = Placing.texts[0], Placing.texts[3]
RECORDS = [("Page", str(number), Placing.texts[place]) for number, place in enumerate((1, 2, 4, 5), 1)]
QUERIES = {f"q{number:02}": (RICH, POOR)[number % 2] for number in range(ENOUGH_FITTED)}
QRELS = {query: {"1" if text == RICH else "3": 1.0} for query, text in QUERIES.items()}
AT_CHANCE = {query: {("1", "2", "3", "4")[number % 4]: 1.0} for number, query in enumerate(QUERIES)}


@pytest.fixture
def pages(make: Make) -> SearchEngine:
    search = make(Placing())
    search.index_records_batch(RECORDS)
    return search


def test_a_weight_by_query_is_kept_where_no_single_weight_suits_all(pages: SearchEngine) -> None:
    assert (ids(pages.search(RICH, weight=0.3))[0], ids(pages.search(POOR, weight=0.3))[0]) == ("1", "4")
    assert (ids(pages.search(RICH, weight=0.7))[0], ids(pages.search(POOR, weight=0.7))[0]) == ("2", "3")
    found = evaluate(pages, QUERIES, QRELS)
    assert found.fit is not None
    assert (found.fit_objection, found.fit.fitted) == (None, 1.0)
    assert found.fit.gain == pytest.approx(found.fit.fitted - found.fit.fixed)
    assert found.fit.gain > found.fit.noise > 0
    kept = keep(pages, found)
    assert kept is not None
    assert kept.weighting == found.fit.weighting.as_document()
    rich, poor = pages.search(RICH), pages.search(POOR)
    assert (ids(rich)[0], ids(poor)[0]) == ("1", "3")
    assert rich.plan.weight < 0.4 < 0.5 < poor.plan.weight
    assert pages.search(RICH, weight=0.7).plan.weight == 0.7
    assert pages.similar("Page", "2").plan.weight == kept.weight
    again = evaluate(pages, QUERIES, QRELS)
    assert again.figures["weighted"].ndcg == 1.0
    assert again.fit_objection == "it is the index's already"
    assert keep(pages, again) is None
    assert pages.generations()[-1].weighting == kept.weighting


def test_other_engines_a_reindex_and_all_pages_have_the_weight_by_query(pages: SearchEngine, make: Make) -> None:
    other = make(Placing())
    before = other.search(RICH).plan.weight
    pages.admin.set_weight(0.5, weighting=BY_COVERAGE)
    assert before == 0.5
    seen = other.search(RICH)
    assert seen.plan.weight == 0.1
    assert seen.plan.note == ""
    explained = other.search(RICH, explain=True)
    assert explained.plan.note.startswith("the vector's weight is fitted to the query: 0.10 by known_share 1.00, cover")
    assert {leg.weight for leg in explained[0].explanation} == {0.1, 0.9}
    first = other.search(RICH, limit=1)
    second = other.search(RICH, limit=1, cursor=first.cursor)
    assert ids(first) + ids(second) == ids(seen)[:2]
    assert (first.plan.weight, second.plan.weight, second[0].score) == (0.1, 0.1, seen[1].score)
    pages.reindex(force=True)
    assert pages.generations()[-1].weighting == BY_COVERAGE.as_document()
    pages.reindex(provider=HashProvider(8))
    assert pages.generations()[-1].weighting is None
    pages.reindex(provider=Placing(), force=True)
    assert pages.search(RICH).plan.weight == 0.1
    with pytest.raises(InvalidInput, match="a weighting has base, coefficients, means"):
        pages.admin.set_weight(0.4, weighting={"base": 0.4})
    assert pages.admin.set_weight(0.4).weighting is None
    assert other.search(RICH).plan.weight == 0.4


def test_a_deeper_page_has_the_features_of_the_first(make: Make) -> None:
    search = make(HashProvider(8))
    texts = [f"fox {'more ' * number}" if number < 150 else "else" for number in range(400)]
    texts[:5] = ["red fox"] * 5
    RecordStore(search).insert("Doc", [{"id": str(number), "text": text} for number, text in enumerate(texts)])
    search.admin.set_weight(0.5, weighting=Weighting(0.0, {"keyword_gap": 1.0}, {"keyword_gap": 0.2}))
    whole = search.search("red fox", limit=150)
    page = search.search("red fox", limit=5, offset=60)
    assert (page.plan.weight, ids(page)) == (whole.plan.weight, ids(whole)[60:65])
    assert whole.plan.weight == 0.65, "by the tenth; by the last it were 0.75"


def test_unknown_words_and_a_named_record_count_for_more_than_a_weight_by_query(pages: SearchEngine) -> None:
    provider = pages.provider
    assert isinstance(provider, Placing)
    pages.admin.set_weight(0.5, weighting=Weighting(0.9, {}, {}))
    assert pages.search(RICH).plan.weight == 0.9
    provider.share = 0.6
    lowered = pages.search(POOR)
    assert lowered.plan.weight == pytest.approx(0.45)
    assert lowered.plan.note == "the vector counts 0.45, not 0.90: the model knows 60% of the words"


def test_a_weight_by_query_is_not_kept_for_chance_or_for_few(pages: SearchEngine) -> None:
    found = evaluate(pages, QUERIES, AT_CHANCE)
    assert found.fit is not None
    assert found.fit_objection is not None
    few = dict(list(QUERIES.items())[: ENOUGH_FITTED - 1])
    found = evaluate(pages, few, QRELS)
    assert found.fit is None
    assert found.fit_objection == "49 judged queries prove too little of others; it takes 50"
    keep(pages, found)
    assert pages.generations()[-1].weighting is None


def test_one_weight_that_is_better_ends_a_weight_by_query(pages: SearchEngine) -> None:
    pages.admin.set_weight(0.5, weighting=BY_COVERAGE)
    reversed_ = {query: {"2" if text == RICH else "3": 1.0} for query, text in QUERIES.items()}
    found = evaluate(pages, QUERIES, reversed_)
    assert found.objection is None
    kept = keep(pages, found)
    assert kept is not None
    assert (kept.weight, kept.weighting) == (found.best, None)
    assert [ids(pages.search(text))[0] for text in (RICH, POOR)] == ["2", "3"]


def test_a_weight_by_query_is_fitted_to_what_has_to_do_with_it() -> None:
    random = np.random.default_rng(3)
    features = [Features(1.0, *each) for each in random.random((200, 3))]
    names = [f"q{number}" for number in range(200)]
    wanted = np.array([0.2 if each.coverage > 0.5 else 0.8 for each in features])
    scores = 1 - abs(np.array(WEIGHTS) - wanted[:, None])
    fit = fit_weighting(names, scores.tolist(), features)
    assert fit.objection is None
    assert fit.weighting.coefficients["coverage"] <= -0.75
    assert fit == fit_weighting(names, scores.tolist(), features)
    noise = fit_weighting(names, random.random((200, len(WEIGHTS))).tolist(), features)
    assert noise.objection is not None
    same = fit_weighting(names, [[0.5] * len(WEIGHTS)] * 200, features)
    assert same.objection == "no feature of a query has anything to do with its best weight"
    assert Fit(BY_COVERAGE, 0.5, 0.51, 0.01, 0.02).objection == (
        "nDCG@10 is +0.0100 by it, which chance alone may do (0.0200)"
    )


def test_a_gain_is_paired_by_query() -> None:
    assert paired([0.0, 0.5, 1.0], [0.25, 0.75, 1.25]) == (0.25, 0.0)
    assert paired([0.0, 0.0], [0.0, 1.0]) == pytest.approx((0.5, 2 * 0.5**0.5 / 2**0.5))
    assert paired([0.0], [1.0]) == (1.0, 0.0)


def test_a_weight_follows_its_features_in_steps_and_within_bounds() -> None:
    assert [BY_COVERAGE.weight(PLAIN._replace(coverage=share)) for share in (0.0, 0.28, 0.5, 0.75, 1.0)] == [
        *(0.95, 0.7, 0.5, 0.25, 0.05)
    ]
    assert str(BY_COVERAGE) == "0.5 -1 x (coverage - 0.50)"


def test_features_are_of_the_ten_best() -> None:
    keyword = Leg("keyword", {n: 10.0 - n for n in range(10)}, {}, scale=KeywordScale(20.0))
    vector = Leg("vector", {1: 0.9, 2: 0.5}, {}, scale=VectorScale(None))
    assert features_of([keyword, vector], 0.8) == pytest.approx((0.8, 0.5, 0.45, 0.9))
    deeper = Leg("keyword", {**keyword.chosen, 10: 0.5, 11: 0.1}, {}, scale=KeywordScale(20.0))
    assert features_of([deeper], 1.0) == pytest.approx((1.0, 0.5, 0.45, 0.0))
    assert features_of([], 1.0) == (1.0, 0.0, 0.0, 0.0)


def test_all_weights_at_once_measure_what_each_finds() -> None:
    chance = random.Random(5)
    measured = []
    for round_ in range(60):
        refs = [Ref("Doc", str(number)) for number in range(chance.randrange(1, 40))]
        some = [
            {ref: chance.choice((0.0, 0.1, 0.5, 0.51, chance.random())) for ref in refs if chance.random() < 0.6}
            for _ in range(4)
        ]
        keyword = Leg("keyword", some[0], {k: v for k, v in some[1].items() if k not in some[0]}, most=1.5)
        vector = Leg("vector", some[2], {**dict.fromkeys(some[0], 0.2), **some[2]}, scale=VectorScale((0.1, 0.1)))
        legs = Legs([leg for leg in (keyword, vector) if leg.chosen], None, (1.0, 0.6, 0.2)[round_ % 3], "")
        gains = {ref: chance.choice((0.0, 1.0, 2.0)) for ref in refs}
        measured.append(ndcg_by_weight(legs, gains))
        assert measured[-1] == [ndcg(fused(legs, weight), gains) for weight in WEIGHTS]
    assert len({tuple(each) for each in measured}) > 30


@pytest.mark.parametrize(
    ("weighting", "message"),
    [
        ({"base": 0.5}, "a weighting has base, coefficients, means"),
        ({**BY_COVERAGE.as_document(), "base": "a"}, "base of a weighting: a number from -1 to 1, not 'a'"),
        ({**BY_COVERAGE.as_document(), "base": float("nan")}, "base of a weighting"),
        ({**BY_COVERAGE.as_document(), "coefficients": {"coverage": 2}}, "coefficients of a weighting: a number"),
        ({**BY_COVERAGE.as_document(), "coefficients": {"words": 1}}, "are of known_share, coverage, keyword_gap"),
        ({**BY_COVERAGE.as_document(), "means": {}}, "has the means of its coefficients, coverage"),
        (0.5, "not 0.5"),
    ],
)
def test_what_is_no_weighting_is_refused(weighting: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        check_weighting(weighting)


def test_eval_fits_keeps_and_shows_a_weight_by_query(run: Run, tmp_path: Path) -> None:
    texts = ["parcel for Mr Fox, Bear Street: invoice, receipt, payment, bank, account, tax"]
    texts += [
        "the fox and the wolf are predators of the forest",
        "my salary was never paid",
        "in the late evening, tea",
    ]
    records = "".join(json.dumps({"id": str(n), "text": text}) + "\n" for n, text in enumerate(texts, 1))
    run("data", "insert", "Page", stdin=records)
    asked = [("fox bear", 1), ("wages are too late", 3)]
    queries = [json.dumps({"_id": str(n), "text": asked[n % 2][0]}) for n in range(ENOUGH_FITTED)]
    (tmp_path / "q.jsonl").write_text("\n".join(queries), "utf-8")
    (tmp_path / "r.tsv").write_text("\n".join(f"{n}\t{asked[n % 2][1]}\t1" for n in range(ENOUGH_FITTED)), "utf-8")
    files = ("eval", "--queries", "q.jsonl", "--qrels", "r.tsv")
    assert "--save keeps it: " in run(*files).stderr
    saved = run(*files, "--save").stderr
    assert "a weight by query: nDCG@10 1.0000, of one weight " in saved
    assert "saved: " in saved
    again = json.loads(run(*files, "--save", "--json").stdout)
    assert (again["saved"], again["fit"]["objection"]) == (False, "it is the index's already")
    assert again["figures"]["weighted"]["ndcg"] == 1.0
    shown = f"weight by query (generation 1): {Weighting(**again['fit']['weighting'])}"
    assert shown in run("embeddings", "status").stdout.splitlines()
    assert shown in run(*files).stderr.splitlines()
    assert "the vector's weight is fitted to the query: " in run("search", "fox bear", "--explain").stderr
    status = json.loads(run("embeddings", "status", "--json").stdout)
    assert status["generations"][0]["weighting"] == again["fit"]["weighting"]
