"""The search view of the page in headless Chromium: what it asks for, what it shows, and what it offers to copy."""

import json
import os
import re
import shlex
import subprocess
from asyncio import to_thread
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from threading import Event
from typing import Any
from urllib.parse import quote, urlencode

import httpx
import pytest
from selenium.webdriver.chrome.webdriver import WebDriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from sqlalchemy import Engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

import kameleon
from kameleon import RecordStore, SearchEngine, searchable
from kameleon.server import app, page
from kameleon.server.running import Prefixed
from stress.workloads.browser import click, reported, serving, shaped, shown, until

from .conftest import Indexes

STATIC = Path(page.__file__).with_name("static")
BOTH = pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
LAMPS = [
    {"id": "L-1", "name": "Desk lamp of brass", "price": 40, "made": "2026-01-10", "state": "sold", "tags": ["desk"]},
    {"id": "L-2", "name": "Floor lamp", "price": 80, "made": "2026-02-03", "state": "new", "tags": ["floor", "tall"]},
    {"id": "L-3", "name": "Desk lamp, \U0001f4a1 bright desk light", "price": 15, "made": "2026-02-20", "state": "new"},
    {"id": "L/4", "name": "Lantern for the <b>garden</b>", "price": 25, "made": "2026-02-21", "state": "new"},
    {"id": "L-5", "name": "Reading light", "price": 30, "made": "2026-03-01", "state": "sold"},
]
CHAIRS = [{"id": n, "name": f"{kind} chair for the desk"} for n, kind in enumerate(["Oak", "Steel", "Garden"])]


def with_lamps(search: SearchEngine) -> None:
    RecordStore(search).insert("Lamp", LAMPS)
    RecordStore(search).insert("Chair", CHAIRS)


@pytest.fixture
def backend() -> str:
    """What is not about the database is tested over one."""
    return "sqlite"


@pytest.fixture
def lamps(indexes: Indexes, backend: str) -> SearchEngine:
    return indexes(backend, with_lamps)


@pytest.fixture
def place(lamps: SearchEngine) -> Iterator[str]:
    with serving(app(lamps)) as address:
        yield f"{address}/"


def ids(browser: WebDriver) -> list[str]:
    return [json.loads(str(hit.get_attribute("data-key")))[1] for hit in shown(browser, ".hits > .hit")]


def is_idle(browser: WebDriver) -> bool:
    return browser.find_element(By.CSS_SELECTOR, ".results").get_attribute("aria-busy") == "false"


def opened(browser: WebDriver, place: str, **state: Any) -> list[str]:
    """The ids of the hits of a page with this state in its address."""
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in state.items()}
    browser.get(f"{place}?{urlencode(texts, quote_via=quote)}")
    until(browser, lambda: is_idle(browser))
    return ids(browser)


def becomes(browser: WebDriver, wanted: list[str]) -> bool:
    return until(browser, lambda: is_idle(browser) and ids(browser) == wanted)


def hit(browser: WebDriver, id: str) -> WebElement:
    return shown(browser, ".hits > .hit")[ids(browser).index(id)]


def button(within: Any, text: str) -> WebElement:
    found: WebElement
    (found,) = within.find_elements(By.XPATH, f".//*[(self::button or self::summary) and .='{text}']")
    return found


# without a browser


class Sources(HTMLParser):
    """The addresses that a page loads, and what its content security policy would refuse."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.inline: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.loaded += [value for name in ("src", "href") if (value := given.get(name)) and not value.startswith("#")]
        self.inline += [name for name in given if name == "style" or name.startswith("on")]
        if tag == "style" or (tag == "script" and "src" not in given):
            self.inline.append(tag)


@pytest.mark.parametrize("prefix", ["", "/search/here"])
def test_all_that_the_page_loads_is_served_below_its_own_address(lamps: SearchEngine, prefix: str) -> None:
    client = TestClient(Prefixed(app(lamps), prefix) if prefix else app(lamps), "http://127.0.0.1")
    sources = Sources(client.get(f"{prefix}/").text)
    assert sources.inline == []
    files = [one.partition("#")[0] for one in sources.loaded if one.startswith("static/")]
    assert "static/main.js" in files
    for file in files:
        assert client.get(f"{prefix}/{file}").status_code == 200, file
    assert not [one for one in sources.loaded if one.startswith("/") or "//" in one]


def test_modules_import_what_is_there_and_nothing_from_elsewhere() -> None:
    imports = {path.name: re.findall(r'from "([^"]+)"', path.read_text()) for path in STATIC.glob("*.js")}
    assert "./search.js" in imports["main.js"]
    for module, imported in imports.items():
        for one in imported:
            assert re.fullmatch(r"\./\w+\.js", one), (module, one)
            assert (STATIC / one).is_file(), (module, one)


# what is found, and how it is shown


@BOTH
def test_the_state_is_in_the_address_and_finds_what_the_library_finds(
    browser: WebDriver, place: str, lamps: SearchEngine, backend: str
) -> None:
    state: dict[str, Any] = {"where": {"price": {"$lt": 50}}, "weight": 0.3, "limit": 10, "entity": "Lamp"}
    wanted = [hit.id for hit in lamps.search("desk light", **state)]
    assert len(wanted) > 1
    assert opened(browser, place, q="desk light", **state) == wanted
    by_price = [hit.id for hit in lamps.search("desk light", sort="-price", mode="keyword", entity="Lamp")]
    assert opened(browser, place, q="desk light", sort="-price", mode="keyword", entity="Lamp") == by_price
    alike = [hit.id for hit in lamps.similar("Lamp", "L/4", entities=["Chair"])]
    assert alike
    assert opened(browser, place, like=["Lamp", "L/4"], entity="Chair") == alike
    assert reported(browser) == []


def test_texts_are_marked_by_character_and_never_read_as_html(browser: WebDriver, place: str) -> None:
    opened(browser, place, q="bright desk", mode="keyword", entity="Lamp")
    title = hit(browser, "L-3").find_element(By.CLASS_NAME, "hit-title")
    assert [mark.text for mark in title.find_elements(By.TAG_NAME, "mark")] == ["Desk", "bright", "desk"]
    opened(browser, place, q="<img src=x onerror=document.title='run'> garden", mode="keyword", entity="Lamp")
    assert hit(browser, "L/4").find_element(By.CLASS_NAME, "hit-title").text == "Lantern for the <b>garden</b>"
    assert browser.title == "kameleon"
    assert reported(browser) == []


def test_the_last_of_many_keystrokes_is_what_is_shown(browser: WebDriver, place: str, lamps: SearchEngine) -> None:
    opened(browser, place, q="reading", mode="keyword")
    box = browser.find_element(By.ID, "query")
    box.send_keys(Keys.CONTROL, "a")
    box.send_keys("garden lantern")
    assert becomes(browser, [hit.id for hit in lamps.search("garden lantern", mode="keyword")])


@BOTH
def test_a_filter_shows_as_many_hits_as_it_counted(browser: WebDriver, place: str, backend: str) -> None:
    opened(browser, place, entity="Lamp", limit=50)
    value = """//label[input[@data-focus='state="new"']]"""
    count = until(browser, lambda: browser.find_element(By.XPATH, f"{value}/span[last()]").text)
    click(browser, lambda: browser.find_element(By.XPATH, value))
    assert becomes(browser, ["L-2", "L-3", "L/4"])
    assert count == "3"
    until(browser, lambda: months(browser) == ["2026-02: 3"])
    (chip,) = shown(browser, ".chip")
    assert "state: new" in chip.text
    click(browser, lambda: shown(browser, ".chip")[0])
    assert becomes(browser, ["L-1", "L-2", "L-3", "L-5", "L/4"])
    until(browser, lambda: months(browser) == ["2026-01: 1", "2026-02: 3", "2026-03: 1"])
    click(browser, lambda: shown(browser, ".month")[2])
    assert becomes(browser, ["L-5"])


def months(browser: WebDriver) -> list[str | None]:
    return [one.get_attribute("aria-label") for one in shown(browser, ".month")]


def test_a_range_and_a_filter_as_json_are_one_filter(browser: WebDriver, place: str) -> None:
    opened(browser, place, entity="Lamp", where={"price": {"$gte": 20, "$lte": 40}}, sort="price")
    assert ids(browser) == ["L/4", "L-5", "L-1"]
    assert until(browser, lambda: shown(browser, ".chip"))[0].text.startswith("price: 20 to 40")
    click(browser, lambda: button(browser, "As JSON"))
    area = browser.find_element(By.CSS_SELECTOR, "textarea")
    area.clear()
    area.send_keys('{"$not": {"tags": "desk"}, "price": {"$gt": 20}}', Keys.TAB)
    assert becomes(browser, ["L/4", "L-5", "L-2"])
    area.send_keys("}", Keys.TAB)
    assert "No filter" in until(browser, lambda: browser.find_element(By.CSS_SELECTOR, ".fault").text)


def test_no_fields_are_reported_only_once_they_are_known(browser: WebDriver, lamps: SearchEngine) -> None:
    known, application = Event(), app(lamps)

    async def late(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/api/entities/Lamp":
            await to_thread(known.wait)
        await application(scope, receive, send)

    groups = (By.CSS_SELECTOR, ".groups")
    with serving(late) as address:
        try:
            opened(browser, f"{address}/", entity="Lamp")
            until(browser, lambda: "Counting" in browser.find_element(*groups).text)
            browser.find_element(By.ID, "query").send_keys("oak")
            until(browser, lambda: "q=oak" in browser.current_url and is_idle(browser))
            assert "Counting" in browser.find_element(*groups).text
        finally:
            known.set()
        until(browser, lambda: "state" in browser.find_element(*groups).text)


def test_filters_of_a_phone_are_shown_from_their_beginning_and_left_for_the_hits(
    browser: WebDriver, place: str
) -> None:
    shaped(browser, 360, 400)
    opened(browser, place, entity="Lamp", limit=50)
    logo, tab = (browser.find_element(By.CSS_SELECTOR, each).rect for each in (".logo", ".tabs a"))
    assert logo["x"] + logo["width"] <= tab["x"]
    browser.execute_script("scrollTo(0, 300)")
    click(browser, lambda: button(browser, "Filters"))
    until(browser, lambda: browser.execute_script("return scrollY") == 0)
    click(browser, lambda: button(browser, "Show the hits"))
    assert not shown(browser, ".filters")
    assert becomes(browser, ["L-1", "L-2", "L-3", "L-5", "L/4"])


class Base(DeclarativeBase):
    pass


@searchable(fields=["title"])
class Article(Base):
    __tablename__ = "article"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    published: Mapped[bool]


@searchable(fields=["name"])
class Product(Base):
    __tablename__ = "product"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    published: Mapped[bool]


@BOTH
def test_columns_that_classes_share_filter_all_of_them(browser: WebDriver, engine: Engine) -> None:
    Base.metadata.create_all(engine)
    search = SearchEngine(engine)
    with search.attach(sessionmaker(engine)).begin() as session:
        session.add_all(Article(id=n, title=f"a lamp, part {n}", published=n > 1) for n in range(3))
        session.add_all(Product(id=n, name=f"lamp {n}", published=n > 0) for n in range(2))
    with serving(app(search)) as address:
        assert len(opened(browser, f"{address}/", q="lamp", mode="keyword")) == 5
        value = """//label[input[@data-focus='published=true']]"""
        until(browser, lambda: browser.find_element(By.XPATH, f"{value}/span[last()]").text == "2")
        click(browser, lambda: browser.find_element(By.XPATH, value))
        until(browser, lambda: is_idle(browser) and sorted(ids(browser)) == ["1", "2"])
        assert "entity=Article&entity=Product" in browser.current_url
        assert reported(browser) == []


def test_the_legs_are_beside_the_fusion_and_linked_to_it(browser: WebDriver, place: str, lamps: SearchEngine) -> None:
    fused = opened(browser, place, q="desk lamp", legs=True)
    assert fused == [hit.id for hit in lamps.search("desk lamp")]
    keys = {}
    for mode, side in (("keyword", "words"), ("vector", "vectors")):
        items = until(browser, lambda side=side: shown(browser, f".leg-of-{side} .leg-hit"))  # type: ignore[misc]
        keys[mode] = [json.loads(str(item.get_attribute("data-key")))[1] for item in items]
        assert keys[mode] == [hit.id for hit in lamps.search("desk lamp", mode=mode)]
    links = browser.find_elements(By.CSS_SELECTOR, ".links path")
    assert len(links) == sum(one in fused for leg in keys.values() for one in leg)


def test_an_explanation_adds_up_to_the_score(browser: WebDriver, place: str, lamps: SearchEngine) -> None:
    first = opened(browser, place, q="desk lamp of brass")[0]
    click(browser, lambda: button(hit(browser, first), "Why here"))
    bars = hit(browser, first).find_elements(By.CSS_SELECTOR, ".bar-row .bar-figure")
    assert len(bars) == 2
    (found,) = [hit for hit in lamps.search("desk lamp of brass", explain=True) if hit.id == first]
    assert [float(bar.text) for bar in bars] == [
        pytest.approx(leg.weight * leg.evidence, abs=0.005) for leg in found.explanation
    ]
    assert sum(float(bar.text) for bar in bars) == pytest.approx(found.score, abs=0.011)
    terms = {term.text for term in hit(browser, first).find_elements(By.CLASS_NAME, "term")}
    assert terms == set(found.explanation[0].terms)


def test_the_slider_reorders_the_fusion_and_gives_the_weight_back(
    browser: WebDriver, place: str, lamps: SearchEngine
) -> None:
    opened(browser, place, q="desk light")
    slider = browser.find_element(By.CSS_SELECTOR, ".weight-input")
    slider.send_keys(Keys.HOME)
    assert becomes(browser, [hit.id for hit in lamps.search("desk light", weight=0.0)])
    assert "weight=0" in browser.current_url
    click(browser, lambda: button(browser, "Use the index’s own"))
    assert becomes(browser, [hit.id for hit in lamps.search("desk light")])
    assert "weight" not in browser.current_url


def test_an_index_without_embeddings_has_no_weight_to_choose(browser: WebDriver, tmp_path: Path) -> None:
    search = SearchEngine(kameleon.create_engine(f"sqlite:///{tmp_path / 'words.db'}"))
    search.index_record("Memo", "1", "wages were not paid")
    with serving(app(SearchEngine(search.engine, "static"))) as address:
        assert opened(browser, f"{address}/", q="wages") == ["1"]
        assert "no embeddings" in browser.find_element(By.CSS_SELECTOR, ".notes").text
        assert not shown(browser, ".weight-input")
        assert not button(browser, "Show legs").is_displayed()
    search.close()


def test_similar_records_are_one_step_that_back_undoes(browser: WebDriver, place: str, lamps: SearchEngine) -> None:
    before = opened(browser, place, q="garden", mode="keyword")
    click(browser, lambda: button(hit(browser, "L/4"), "Similar"))
    assert becomes(browser, [hit.id for hit in lamps.similar("Lamp", "L/4", mode="keyword")])
    browser.back()
    assert becomes(browser, before)


def test_a_correction_is_shown_and_can_be_refused(browser: WebDriver, place: str) -> None:
    assert opened(browser, place, q="raeding", mode="keyword") == ["L-5"]
    assert "reading" in shown(browser, ".notes .notice")[0].text
    click(browser, lambda: button(browser, "Only “raeding”"))
    assert becomes(browser, [])
    assert "No record matches" in shown(browser, ".empty")[0].text
    assert "q=%22raeding%22" in browser.current_url


def test_a_problem_is_shown_with_the_library_s_message(browser: WebDriver, place: str) -> None:
    assert opened(browser, place, q="lamp", where={"price": {"$near": 1}}) == []
    (shown_problem,) = shown(browser, ".problem")
    assert "InvalidFilter" in shown_problem.text
    assert "$near" in shown_problem.text
    opened(browser, place, q="lamp", entity="Nothing")
    assert "Lamp" in shown(browser, ".problem")[0].text


def test_the_fields_that_are_shown_are_chosen(browser: WebDriver, place: str) -> None:
    opened(browser, place, q="reading", mode="keyword", fields="price")
    assert facts(browser, "L-5") == ["price"]
    click(browser, lambda: button(browser, "Options"))
    until(browser, lambda: shown(browser, ".shown-fields label"))
    (label,) = [one for one in shown(browser, ".shown-fields label") if one.text == "made"]
    label.click()
    until(browser, lambda: sorted(facts(browser, "L-5")) == ["made", "price"])
    assert "fields=price&fields=made" in browser.current_url


def facts(browser: WebDriver, id: str) -> list[str]:
    return [name.text for name in hit(browser, id).find_elements(By.CSS_SELECTOR, ".facts dt")]


def test_keys_move_through_the_hits(browser: WebDriver, place: str) -> None:
    found = opened(browser, place, q="desk lamp")
    body = browser.find_element(By.TAG_NAME, "body")
    browser.execute_script("document.activeElement.blur()")
    body.send_keys("jj")
    focused = browser.switch_to.active_element
    assert json.loads(str(focused.get_attribute("data-key")))[1] == found[1]
    focused.send_keys("e")
    assert focused.find_elements(By.CLASS_NAME, "why")
    focused.send_keys("]")
    until(browser, lambda: "weight=" in browser.current_url and is_idle(browser))
    focused = browser.switch_to.active_element
    assert json.loads(str(focused.get_attribute("data-key")))[1] == found[1]
    focused.send_keys("?")
    until(browser, lambda: shown(browser, "dialog"))
    browser.switch_to.active_element.send_keys(Keys.ESCAPE)
    until(browser, lambda: not shown(browser, "dialog"))
    focused.send_keys("/")
    assert browser.switch_to.active_element.get_attribute("id") == "query"


def test_a_server_of_one_tenant_offers_no_other(browser: WebDriver, tmp_path: Path) -> None:
    search = SearchEngine(kameleon.create_engine(f"sqlite:///{tmp_path / 'of_tenants.db'}"))
    for tenant in ("acme", "globex"):
        search.for_tenant(tenant).index_record("Memo", f"of-{tenant}", "wages were not paid")
    with serving(app(search, tenant="acme")) as address:
        assert opened(browser, f"{address}/", q="wages") == ["of-acme"]
        assert "All tenants" not in browser.page_source
    with serving(app(search)) as address:
        assert opened(browser, f"{address}/", q="wages", tenant="globex") == ["of-globex"]
        assert sorted(opened(browser, f"{address}/", q="wages", all_tenants=True)) == ["of-acme", "of-globex"]
        assert opened(browser, f"{address}/", q="wages") == []
        assert until(browser, lambda: shown(browser, ".chip"))[0].text == "acme"
        click(browser, lambda: button(browser, "acme"))
        assert becomes(browser, ["of-acme"])
        browser.back()
        until(browser, lambda: shown(browser, ".chip"))
        click(browser, lambda: button(browser, "Search the records of all tenants"))
        until(browser, lambda: sorted(ids(browser)) == ["of-acme", "of-globex"])
    search.close()


# what is copied


STATES: list[dict[str, Any]] = [
    {"q": "desk \"lamp' $HOME `x`", "entity": "Lamp", "where": {"price": {"$gte": 10, "$lt": 50}}, "weight": 0.25},
    {"q": "-brass desk", "mode": "keyword", "limit": 20, "min_score": 0.05, "sort": "-price,name"},
    {"q": "", "where": {"made": {"$gte": {"$date": "2026-02-01"}, "$lt": {"$date": "2026-03-01"}}}},
    {"q": "light", "fusion": "rrf", "diversity": 0.5, "synonyms": False, "rules": False},
    {"like": ["Lamp", "L/4"], "entity": "Chair", "mode": "vector"},
]


def copied(browser: WebDriver) -> dict[str, str]:
    """The texts, once the one in Python has the provider of the index."""
    click(browser, lambda: button(browser, "Copy"))
    until(browser, lambda: [one for one in shown(browser, ".share-block pre") if "embedding_provider=" in one.text])
    blocks = shown(browser, ".share-block")
    return {block.find_element(By.TAG_NAME, "h3").text: block.find_element(By.TAG_NAME, "pre").text for block in blocks}


@pytest.fixture
def bundled(engine: Engine) -> SearchEngine:
    """An index with the bundled model, which another process opens by its name."""
    search = SearchEngine(engine, embedding_provider="static")
    with_lamps(search)
    return search


@pytest.fixture
def ids_of_command(bundled: SearchEngine, command: Callable[..., Any]) -> Callable[[list[str]], list[str]]:
    """The ids that a command line finds."""
    environment = {**os.environ, "KAMELEON_URL": url_of(bundled)}

    def run(words: list[str]) -> list[str]:
        assert words[0] == "kameleon"
        done = command(words[1], "--json", *words[2:], environment=environment)
        assert done.returncode == 0, done.stderr
        return [hit["id"] for hit in json.loads(done.stdout)["hits"]]

    return run


def url_of(search: SearchEngine) -> str:
    return search.engine.url.render_as_string(hide_password=False)


@BOTH
def test_what_is_copied_finds_what_is_shown(
    browser: WebDriver, bundled: SearchEngine, ids_of_command: Callable[[list[str]], list[str]]
) -> None:
    with serving(app(bundled)) as address:
        for state in STATES:
            wanted = opened(browser, f"{address}/", **state)
            assert wanted, state
            texts = copied(browser)
            assert ids_of_python(bundled, texts["Python"]) == wanted, texts["Python"]
            assert ids_of_command(shlex.split(texts["Command line"])) == wanted, texts["Command line"]
            _, url = shlex.split(texts["curl"])
            assert [hit["id"] for hit in httpx.get(url, trust_env=False).json()["hits"]] == wanted, url
            browser.get(texts["Link to this page"])
            assert becomes(browser, wanted)


HOSTILE: list[dict[str, Any]] = [
    {"q": "lamp\x1b[201~\n'$(touch x)'\\\x9b desk"},
    {"like": ["--base-url=http://evil.example", "-d"], "entity": "-e"},
]


@pytest.mark.parametrize("state", HOSTILE)
def test_what_is_copied_of_a_link_does_nothing_in_a_terminal(browser: WebDriver, place: str, state: Any) -> None:
    opened(browser, place, **state)
    text = copied(browser)["Command line"]
    assert text.isprintable()
    shell = 'kameleon() { printf "%s\\0" "$@"; }; ' + text
    done = subprocess.run(["bash", "-c", shell], capture_output=True, check=True, env={"LC_ALL": "C.UTF-8"})
    words = done.stdout.decode().split("\0")[:-1]
    wanted = state.get("like") or [state["q"]]
    assert words[-len(wanted) :] == wanted
    assert "like" not in state or words[-len(wanted) - 1] == "--"


def ids_of_python(search: SearchEngine, text: str) -> list[str]:
    """Those that the text prints, run with the URL of the index."""
    found: list[str] = []
    names: dict[str, Any] = {"print": lambda *shown: found.append(shown[2])}
    exec(text.replace('"DATABASE_URL"', repr(url_of(search))), names)  # noqa: S102
    names["search"].close()
    names["search"].engine.dispose()
    return found


def test_what_is_copied_has_the_servers_tenant_and_asks_for_its_token(browser: WebDriver, tmp_path: Path) -> None:
    search = SearchEngine(kameleon.create_engine(f"sqlite:///{tmp_path / 'of_tenants.db'}"), "static")
    for tenant in ("acme", "globex"):
        search.for_tenant(tenant).index_record("Memo", f"of-{tenant}", "wages were not paid")
    token = "a token of this test"  # noqa: S105
    with serving(app(search, tenant="acme", token=token)) as address:
        browser.get(f"{address}/?q=wages")
        until(browser, lambda: browser.find_element(By.ID, "token")).send_keys(token, Keys.ENTER)
        assert until(browser, lambda: ids(browser)) == ["of-acme"]
        texts = copied(browser)
        assert ids_of_python(search, texts["Python"]) == ["of-acme"]
        assert "--tenant acme" in texts["Command line"]
        assert token not in "".join(texts.values())
        _, _, header, url = shlex.split(texts["curl"].replace("$KAMELEON_TOKEN", token))
        headers = dict([header.split(": ")])
        found = httpx.get(url, headers=headers, trust_env=False)
        assert [hit["id"] for hit in found.json()["hits"]] == ["of-acme"]
    search.close()
