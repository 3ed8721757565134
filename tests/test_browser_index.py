"""The page's views of judgements and of the index, in headless Chromium."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from threading import Event, Thread
from typing import Any

import pytest
from selenium.webdriver.chrome.webdriver import WebDriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.select import Select
from sqlalchemy import Engine
from starlette.applications import Starlette
from starlette.routing import Mount

from kameleon import ALL_TENANTS, SearchEngine
from kameleon.evaluation import read_qrels, read_queries
from kameleon.server import app
from kameleon.testing import HashProvider
from stress.workloads.browser import click, reported, serving, shown, until


def texts(browser: WebDriver, selector: str) -> list[str]:
    return [element.text for element in shown(browser, selector)]


def rows(browser: WebDriver, caption: str) -> list[list[str]]:
    """The cells of a table's body."""
    region = browser.find_element(By.CSS_SELECTOR, f'[role="region"][aria-label="{caption}"]')
    return [
        [cell.text for cell in row.find_elements(By.TAG_NAME, "td")]
        for row in region.find_elements(By.CSS_SELECTOR, "tbody tr")
    ]


def button(browser: WebDriver, start: str) -> Any:
    return until(browser, lambda: next((b for b in shown(browser, "button") if b.text.startswith(start)), None))


# The tab "index"


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> Engine:
    engine: Engine = request.getfixturevalue("file_engine" if request.param == "sqlite" else "pg_engine")
    return engine


def test_the_index_shows_what_is_pending_and_failed_and_the_doctors_cures(browser: WebDriver, database: Engine) -> None:
    SearchEngine(database).index_record("Note", 1, "kept without a model")
    search = SearchEngine(
        database, HashProvider(refuse=lambda text: ValueError("no hounds") if "hound" in text else None)
    )
    search.index_record("Note", 2, "a fox and a hound")
    with serving(app(search)) as url:
        browser.get(f"{url}/?tab=index")
        ((entity, *counts, _moment, ranked),) = until(browser, lambda: rows(browser, "Entities"))
        assert (entity, counts, ranked) == ("Note", ["2", "1", "1"], "kameleon")
        ((record, _reason, message, _attempts),) = until(browser, lambda: rows(browser, "Failed records"))
        assert (record, "no hounds" in message) == ("Note/2", True)
        ((number, model, *_),) = rows(browser, "Generations")
        assert (number, model) == ("1", search.generations()[0].model_name)
        is_counted = bool(shown(browser, "#index details"))
        assert is_counted == (database.dialect.name == "postgresql"), "SQLite does not count by table"
        click(browser, lambda: button(browser, "Run the checks"))
        found = until(browser, lambda: texts(browser, ".finding"))
        assert any("pending" in each and "Cure: kameleon embeddings sync" in each for each in found)
        assert reported(browser) == []


class Waiting(HashProvider):
    """Embeds the second and later batches only once it may."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.may = Event()

    def embed_batch(self, texts: Sequence[str]) -> Any:
        assert sum(map(len, self.calls)) < 10 or self.may.wait(60)
        return super().embed_batch(texts)


@contextmanager
def reindexing(search: SearchEngine, provider: Waiting) -> Iterator[None]:
    """A run that has embedded a batch of ten."""
    run = Thread(target=search.reindex, kwargs={"provider": provider, "batch_size": 10})
    run.start()
    try:
        yield
    finally:
        provider.may.set()
        run.join()


def test_a_running_reindex_is_shown_with_its_progress_until_it_ends(browser: WebDriver, file_engine: Engine) -> None:
    search = SearchEngine(file_engine, HashProvider())
    search.index_records_batch([("Note", str(number), f"note {number}") for number in range(30)])
    with serving(app(search)) as url:
        browser.get(f"{url}/?tab=index")
        with reindexing(search, Waiting(model_name="another")):
            until(browser, lambda: button(browser, "Refresh").click() or shown(browser, "#index progress[value='10']"))
            assert [text[:23] for text in texts(browser, "#index progress + p")] == ["10 of 30 records (33 %)"]
        until(browser, lambda: not shown(browser, "#index progress"))
        assert [row[3] for row in rows(browser, "Generations")] == ["retired", "active"]


def test_the_index_is_shown_of_one_tenant(browser: WebDriver, file_engine: Engine) -> None:
    search = SearchEngine(file_engine, HashProvider())
    for tenant, count in (("a", 1), ("b", 3)):
        search.for_tenant(tenant).index_records_batch([("Note", str(number), "fox") for number in range(count)])
    with serving(app(search)) as url:
        browser.get(f"{url}/?tab=index")
        assert until(browser, lambda: rows(browser, "Tenants with most records")) == [["b", "3"], ["a", "1"]]
        assert rows(browser, "Entities")[0][1] == "4"
        click(browser, lambda: button(browser, "a"))
        until(browser, lambda: rows(browser, "Entities")[0][1] == "1")
        click(browser, lambda: button(browser, "Show all tenants"))
        until(browser, lambda: rows(browser, "Entities")[0][1] == "4")
    with serving(app(search, tenant="b")) as url:
        browser.get(f"{url}/?tab=index")
        assert until(browser, lambda: rows(browser, "Entities"))[0][1] == "3"
        assert not shown(browser, ".checks")


def test_a_server_that_ended_is_stated_with_a_way_to_try_again(browser: WebDriver, file_engine: Engine) -> None:
    with serving(app(SearchEngine(file_engine))) as url:
        browser.get(f"{url}/?tab=index")
        until(browser, lambda: shown(browser, ".empty"))
    click(browser, lambda: button(browser, "Refresh"))
    (problem,) = until(browser, lambda: texts(browser, ".problem"))
    assert "The server does not answer" in problem
    assert button(browser, "Try again").is_enabled()
    reported(browser)


# The tab "judge"


def marked(browser: WebDriver, url: str, query: str, *marks: int) -> None:
    """Marks the first hits of a query by these gains."""
    browser.get(f"{url}/?q={query}")
    until(browser, lambda: len(shown(browser, ".judge")) >= len(marks))
    for place, gain in enumerate(marks):
        until(browser, partial(pressed, browser, f".judge-{gain}", place))


def pressed(browser: WebDriver, selector: str, place: int) -> bool:
    """Whether a mark is pressed; else it is, now. A later answer to the same search replaces the hits."""
    mark = shown(browser, selector)[place]
    if mark.get_attribute("aria-pressed") == "true":
        return True
    mark.click()
    return False


def test_judgements_of_a_read_only_server_are_the_browsers_until_one_that_writes_keeps_them(
    browser: WebDriver, file_engine: Engine
) -> None:
    search = SearchEngine(file_engine, HashProvider())
    search.index_records_batch([("Note", str(number), f"fox and hound {number}") for number in range(5)])
    both = Starlette(routes=[Mount("/read", app(search)), Mount("/write", app(search, write=True))])
    with serving(both) as url:
        marked(browser, f"{url}/read", "fox", 1, 0)
        marked(browser, f"{url}/read", "hound", 1)
        browser.get(f"{url}/read/?tab=judge")
        assert until(browser, lambda: texts(browser, ".judged-queries > li > a")) == ["fox", "hound"]
        assert until(browser, lambda: shown(browser, ".weighing svg"))
        assert search.judgements.list() == []
        kept = exported(browser)
        assert set(read_queries(kept["queries"].splitlines()).values()) == {"fox", "hound"}
        assert sorted(len(gains) for gains in read_qrels(kept["qrels"].splitlines()).values()) == [1, 2]
        browser.get(f"{url}/write/?tab=judge")
        click(browser, lambda: button(browser, "Keep in the index"))
        until(browser, lambda: not texts(browser, ".judged-local p"))
        assert sorted((one.query, one.gain) for one in search.judgements.list()) == [
            ("fox", 0),
            ("fox", 1),
            ("hound", 1),
        ]
        click(browser, lambda: shown(browser, ".judged-records .remove")[0])
        until(browser, lambda: len(shown(browser, ".judged-records li")) == 2)
        assert until(browser, lambda: len(search.judgements.list()) == 2)
        assert reported(browser) == []


def test_without_vectors_figures_are_shown_and_no_weight(browser: WebDriver, file_engine: Engine) -> None:
    search = SearchEngine(file_engine)
    search.index_record("Note", 1, "fox and hound")
    search.judgements.set("fox", [("Note", "1")])
    with serving(app(search, write=True)) as url:
        browser.get(f"{url}/?tab=judge")
        until(browser, lambda: rows(browser, "1 judged query") == [["Keywords alone", "1.0000", "1.0000", "1.0000"]])
        assert not shown(browser, "#judge svg")
        assert reported(browser) == []


def test_queries_of_tenants_are_measured_for_all_and_for_one(browser: WebDriver, file_engine: Engine) -> None:
    search = SearchEngine(file_engine, HashProvider())
    for tenant in ("a", "b"):
        search.for_tenant(tenant).index_records_batch([("Note", str(number), f"fox {number}") for number in range(3)])
    with serving(app(search, write=True)) as url:
        marked(browser, url, "fox&tenant=a", 1)
        marked(browser, url, "fox&tenant=b", 1, 0)
        kept = search.judgements.list(tenant=ALL_TENANTS)
        assert sorted((one.tenant, one.gain) for one in kept) == [("a", 1), ("b", 0), ("b", 1)]
        browser.get(f"{url}/?tab=judge")
        until(browser, lambda: texts(browser, "#judge table caption") == ["1 judged query"])
        assert len(shown(browser, ".judged-records li")) == 3
        Select(browser.find_element(By.CSS_SELECTOR, "#judge select")).select_by_visible_text("b")
        until(browser, lambda: len(shown(browser, ".judged-records li")) == 2)
        assert until(browser, lambda: shown(browser, ".weighing svg"))
        assert reported(browser) == []


def has_gains(search: SearchEngine, gains: Sequence[float]) -> bool:
    return sorted(one.gain for one in search.judgements.list()) == list(gains)


def test_the_hit_in_focus_is_marked_by_the_keyboard_and_the_curve_follows(
    browser: WebDriver, file_engine: Engine
) -> None:
    search = SearchEngine(file_engine, HashProvider())
    search.index_records_batch([("Note", str(number), f"fox and hound {number}") for number in range(3)])
    with serving(app(search, write=True)) as url:
        browser.get(f"{url}/?q=fox")
        until(browser, lambda: len(shown(browser, ".judge")) == 3)
        for keys, gains in ((f"{Keys.ESCAPE}+", [1]), ("j-", [0, 1]), ("-", [1])):
            ActionChains(browser).send_keys(keys).perform()
            until(browser, partial(has_gains, search, gains))
        until(browser, lambda: "1 judged query" in "".join(texts(browser, ".curve-readout")))
        (curve,) = shown(browser, ".curve-beside svg")
        ActionChains(browser).move_to_element_with_offset(curve, -curve.size["width"] // 2 + 8, 0).click().perform()
        until(browser, lambda: "weight=0" in browser.current_url)
        until(browser, lambda: texts(browser, ".curve-readout")[0].startswith("nDCG@10 1.000 at .00"))
        assert reported(browser) == []


def exported(browser: WebDriver) -> Any:
    """The files that the page's buttons give, of what this browser keeps."""
    script = """
        const [done] = arguments;
        const name = Object.keys(localStorage).find((each) => each.startsWith("kameleon.judgements:"));
        const kept = JSON.parse(localStorage.getItem(name));
        const module = new URL("static/judgements.js", document.baseURI);
        import(module).then(({ asFiles }) => done(JSON.stringify(asFiles(kept))));
    """
    return json.loads(browser.execute_async_script(script))
