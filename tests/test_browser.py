"""The page in headless Chromium: what is seen and done from the first word to `kameleon eval`, and what axe finds."""

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from selenium.webdriver.chrome.webdriver import WebDriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from sqlalchemy import Engine

from kameleon import RecordStore, SearchEngine
from kameleon.server import app
from stress.workloads.browser import click, reported, serving, shaped, shown, until, violations

TICKETS = Path(__file__).parents[1] / "examples" / "tickets.jsonl"
JUDGED = {"fire hazard": "T-1120", "charged twice": "T-1001", "webhook duplicates": "T-1108"}


def ids(browser: WebDriver) -> list[str]:
    """Of the hits that are shown."""
    return [json.loads(str(hit.get_attribute("data-key")))[1] for hit in shown(browser, ".hits > .hit")]


def searched(browser: WebDriver, query: str) -> list[str]:
    """The ids of the hits of a query that is typed, once its first one is there."""
    box = until(browser, lambda: browser.find_element(By.ID, "query"))
    box.clear()
    box.send_keys(query)
    return until(browser, lambda: ids(browser) if in_url(browser, "q") == query and is_idle(browser) else [])


def is_idle(browser: WebDriver) -> bool:
    """Whether the last request for hits is answered."""
    return browser.find_element(By.CSS_SELECTOR, ".results").get_attribute("aria-busy") == "false"


def in_url(browser: WebDriver, name: str) -> str:
    return parse_qs(urlsplit(browser.current_url).query).get(name, [""])[0]


# From the first word to `kameleon eval`


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'test.db'}"
    return str(request.getfixturevalue("pg_url").render_as_string(hide_password=False))


@pytest.fixture
def kameleon(database: str, command: Callable[..., Any]) -> Callable[..., str]:
    """What `kameleon …` prints, on the database."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KAMELEON_")}

    def run(*arguments: str) -> str:
        done = command(*arguments, environment={**environment, "KAMELEON_URL": database})
        assert done.returncode == 0, done.stderr
        return str(done.stdout)

    return run


@contextmanager
def served(script: str, database: str) -> Iterator[str]:
    """The address of `kameleon serve --write`. SIGTERM ends it."""
    command = [script, "serve", "--write", "--no-browser", "--port", "0", "--json"]
    environment = {**os.environ, "KAMELEON_URL": database}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield json.loads(process.stdout.readline())["url"]
    finally:
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors


def test_the_demo_index_is_searched_filtered_judged_and_weighted_and_eval_sees_it(
    browser: WebDriver, database: str, kameleon: Callable[..., str], console_script: str
) -> None:
    kameleon("data", "insert", "Ticket", "--from-file", str(TICKETS))
    with served(console_script, database) as url:
        browser.get(url)
        searches(browser)
        filters(browser)
        judges(browser)
        weighs(browser)
        assert reported(browser) == []
    found = json.loads(kameleon("eval", "--json"))
    assert found["queries"] == len(JUDGED)
    assert found["weight"] == 0.3
    assert json.loads(kameleon("search", "fire hazard", "--explain", "--json"))["plan"]["weight"] == 0.3


def searches(browser: WebDriver) -> None:
    """As it is typed; the words of the query are marked."""
    found = searched(browser, "fire hazard")
    assert found[0] == JUDGED["fire hazard"]
    (first, *_) = shown(browser, ".hits > .hit")
    assert {mark.text for mark in first.find_elements(By.TAG_NAME, "mark")} >= {"fire", "hazard"}


def filters(browser: WebDriver) -> None:
    """By a value of a field; the address shows the same to others; and the filter is removed again."""
    before = ids(browser)
    click(browser, lambda: browser.find_element(By.CSS_SELECTOR, "[data-focus='status=\"open\"']"))
    found = until(browser, lambda: ids(browser) if ids(browser) != before else [])
    assert set(found) < set(before)
    assert json.loads(in_url(browser, "where")) == {"status": "open"}
    browser.refresh()
    assert until(browser, lambda: ids(browser)) == found
    click(browser, lambda: browser.find_element(By.CSS_SELECTOR, ".chip"))
    assert until(browser, lambda: ids(browser) if ids(browser) != found else []) == before


def judges(browser: WebDriver) -> None:
    """One hit of each query is marked as relevant, the one below as not."""
    for query, relevant in JUDGED.items():
        found = searched(browser, query)
        assert relevant in found
        marks(browser, relevant, "judge-1")
        other = next(other for other in found if other != relevant)
        marks(browser, other, "judge-0")


def marks(browser: WebDriver, id: str, mark: str) -> None:
    def button() -> Any:
        return shown(browser, ".hits > .hit")[ids(browser).index(id)].find_element(By.CLASS_NAME, mark)

    click(browser, button)
    until(browser, lambda: button().get_attribute("aria-pressed") == "true")


def weighs(browser: WebDriver) -> None:
    """The slider is moved by its keys to .3, the curve is there, and the tab "judge" saves the weight."""
    slider = browser.find_element(By.CSS_SELECTOR, ".weight-input")
    slider.send_keys(Keys.HOME, *[Keys.ARROW_RIGHT] * 6)
    until(browser, lambda: in_url(browser, "weight") == "0.3")
    until(browser, lambda: shown(browser, ".weight svg.curve"))
    click(browser, lambda: browser.find_element(By.CSS_SELECTOR, '[data-tab="judge"]:not(.brand)'))
    click(browser, lambda: button_named(browser, "Save .30"))
    until(browser, lambda: "is .30 now" in browser.find_element(By.ID, "toast").text)


def button_named(browser: WebDriver, start: str) -> Any:
    return next((each for each in shown(browser, "button") if each.text.startswith(start)), None)


# What axe finds


@pytest.fixture
def tickets(file_engine: Engine) -> SearchEngine:
    search = SearchEngine(file_engine, "static")
    lines = TICKETS.read_text("utf-8").splitlines()
    RecordStore(search).insert("Ticket", map(json.loads, lines))
    return search


STATES = {
    "?q=fire+hazard": ".hits > .hit",
    "?q=fire+hazard&legs=true": ".leg-hits > li",
    "?q=hazrad&where=" + '{"status":"open"}': ".chip",
    "?q=a&where=" + '{"status":{"$nonsense":1}}': ".problem",
    "?q=wages&mode=keyword&where=" + '{"status":"none"}': ".empty",
    "?like=" + '["Ticket","T-1120"]': ".like",
    "?tab=judge": "#judge h2",
    "?tab=index": "#index table",
}
"""Addresses of the page, each with what is shown there when it is complete."""


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (360, "dark")])
def test_axe_finds_nothing_serious_and_no_state_is_wider_than_the_window(
    browser: WebDriver, tickets: SearchEngine, width: int, scheme: str
) -> None:
    shaped(browser, width, scheme=scheme)
    with serving(app(tickets, write=True)) as url:
        for address, complete in STATES.items():
            browser.get(f"{url}/{address}")
            until(browser, partial(shown, browser, complete))
            assert violations(browser) == [], address
            assert browser.execute_script("return document.documentElement.scrollWidth") <= width, address


@pytest.mark.parametrize("address", ["?q=fire", "?tab=index"])
def test_axe_finds_nothing_serious_in_an_empty_index(browser: WebDriver, file_engine: Engine, address: str) -> None:
    with serving(app(SearchEngine(file_engine, "static"))) as url:
        browser.get(f"{url}/{address}")
        until(browser, lambda: shown(browser, ".empty"))
        assert violations(browser) == []
        assert reported(browser) == []
