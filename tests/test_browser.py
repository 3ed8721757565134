"""The page in headless Chromium: what a reader sees and does, and what axe finds."""

from collections.abc import Iterator

import pytest
from selenium.webdriver.chrome.webdriver import WebDriver
from sqlalchemy import Engine

from kameleon import SearchEngine
from kameleon.server import app
from kameleon.testing import HashProvider

from .browser import serving, shaped, violations


@pytest.fixture
def address(file_engine: Engine) -> Iterator[str]:
    search = SearchEngine(file_engine, HashProvider())
    search.index_record("Note", "1", "Wages were not paid in March")
    with serving(app(search)) as url:
        yield url


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_axe_finds_nothing_serious(browser: WebDriver, address: str, width: int, scheme: str) -> None:
    shaped(browser, width, scheme=scheme)
    browser.get(f"{address}/")
    assert violations(browser) == []
