"""`examples/docs_search`: sections of the built site are records, and its search box shows them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver.chrome.webdriver import WebDriver
from selenium.webdriver.common.by import By
from starlette.testclient import TestClient

import kameleon
from examples.docs_search import __main__ as docs_search
from kameleon import SearchEngine
from stress.workloads.browser import reported, serving, shown, until
from tools import build_site

from .conftest import ids

PAGE = """<html><head><title>Tenants - kameleon</title></head><body><nav>Begin</nav><main>
<h1 id="tenants">Tenants<a href="#tenants">¶</a></h1><p>Whose records these are.</p>
<h2 id="policies">Policies<a href="#policies">¶</a></h2><p>Row-level security in PostgreSQL.</p></main></body></html>"""


@pytest.fixture
def search(tmp_path: Path) -> Iterator[SearchEngine]:
    engine = kameleon.create_engine(f"sqlite:///{tmp_path / 'docs-search.db'}")
    yield SearchEngine(engine, "static")
    engine.dispose()


@pytest.fixture
def site(tmp_path: Path) -> Path:
    page = tmp_path / "site" / "docs" / "tenants" / "index.html"
    page.parent.mkdir(parents=True)
    page.write_text(PAGE, "utf-8")
    (tmp_path / "site" / "docs" / "tenants.md").write_text("# Tenants\n\nThe page once more.\n", "utf-8")
    return tmp_path / "site"


def test_each_section_of_a_page_is_found_at_its_address(search: SearchEngine, site: Path) -> None:
    docs_search.update(search, site)
    client = TestClient(docs_search.application(search, site), base_url="http://127.0.0.1")
    answer = client.get("/kameleon/api/search", params={"query": "row-level security", "entity": "Section"}).json()
    assert [hit["id"] for hit in answer["hits"]] == ["docs/tenants/#policies"]
    assert answer["hits"][0]["data"] == {
        "title": "Policies",
        "headings": ["Tenants"],
        "text": "Row-level security in PostgreSQL.",
    }
    assert client.get("/docs/tenants/").text == PAGE
    assert client.post("/kameleon/api/records", json={"entity": "Section", "records": []}).status_code in (
        403,
        404,
        405,
    )


def test_a_site_that_was_built_again_is_indexed_where_it_changed(search: SearchEngine, site: Path) -> None:
    docs_search.update(search, site)
    assert search.get_status("Section")[0].indexed == 2
    page = site / "docs" / "tenants" / "index.html"
    page.write_text(PAGE.replace("policies", "rules").replace("Whose records", "Whose rows"), "utf-8")
    docs_search.update(search, site)
    assert search.get_status("Section")[0].indexed == 2
    assert ids(search.search("security", mode="keyword")) == ["docs/tenants/#rules"]
    assert ids(search.search("whose", mode="keyword")) == ["docs/tenants/#tenants"]
    assert ids(search.search("records", mode="keyword")) == []


def test_the_search_box_of_the_site_shows_sections_and_leads_to_them(
    search: SearchEngine, tmp_path: Path, browser: WebDriver
) -> None:
    build_site.build(tmp_path)
    site = tmp_path / build_site.SITE
    docs_search.update(search, site)
    with serving(docs_search.application(search, site)) as address:
        browser.get(f"{address}/docs/limits/")
        box = until(browser, lambda: shown(browser, ".ks input"))[0]
        box.send_keys("keep tenants apart in PostgreSQL")
        links = until(browser, lambda: shown(browser, ".ks li a"))
        assert links[0].find_element(By.TAG_NAME, "mark").text
        target = str(links[0].get_attribute("href"))
        assert target.startswith(f"{address}/docs/")
        links[0].click()
        until(browser, lambda: browser.current_url == target)
        anchor = target.partition("#")[2]
        assert browser.find_element(By.ID, anchor)
        assert reported(browser) == []


def test_a_server_of_files_alone_keeps_the_search_of_the_theme(tmp_path: Path, browser: WebDriver) -> None:
    build_site.build(tmp_path)
    with serving(docs_search.StaticFiles(directory=tmp_path / build_site.SITE, html=True)) as address:
        browser.get(f"{address}/docs/limits/")
        until(
            browser,
            lambda: browser.execute_script(
                "return performance.getEntriesByName(arguments[0]).length",
                f"{address}/kameleon/api/search?query=&limit=1",
            ),
        )
        assert browser.find_elements(By.CSS_SELECTOR, ".md-search")
        assert not browser.find_elements(By.CSS_SELECTOR, ".ks")
