"""Headless Chromium on an application that this process serves: Debian's packages `chromium` and `chromium-driver`."""

import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import uvicorn
from axe_core_python.base import AXE_SCRIPT
from selenium import webdriver
from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.chrome.webdriver import WebDriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait
from starlette.types import ASGIApp

T = TypeVar("T")
CHROMIUM, CHROMEDRIVER = (shutil.which(name) for name in ("chromium", "chromedriver"))
ABSENT = "chromium and chromedriver are not installed: apt-get install chromium chromium-driver"
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
    *("--disable-quic", "--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--no-proxy-server", "--hide-scrollbars", "--force-color-profile=srgb", "--lang=en"),
)
WAIT_S = 20.0
"""Bounds how long a page may take to show what is expected. Chosen, not measured."""
POLL_S = 0.02
SERIOUS = ("serious", "critical")
"""What axe calls the violations that no page may have."""


@contextmanager
def serving(application: ASGIApp) -> Iterator[str]:
    """The address of an application on the loopback interface, in a thread of this process."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        config = uvicorn.Config(application, log_config=None, lifespan="off")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@contextmanager
def chromium(folder: Path) -> Iterator[WebDriver]:
    """A browser with a profile of its own in the folder. Its log has what scripts and the content security policy
    report."""
    if CHROMIUM is None or CHROMEDRIVER is None:
        raise FileNotFoundError(ABSENT)
    options = Options()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={folder / 'profile'}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, Service(CHROMEDRIVER))
    try:
        yield driver
    finally:
        driver.quit()


def shaped(driver: WebDriver, width: int, height: int = 900, *, scheme: str = "light") -> None:
    """Gives the page a width and a colour scheme: a window has a least width, a phone's page is narrower."""
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def fresh(driver: WebDriver) -> None:
    """Forgets what earlier tests left: the page, its cookies, its log, its width and colours."""
    driver.get("about:blank")
    driver.execute_cdp_cmd("Storage.clearCookies", {})
    reported(driver)
    shaped(driver, 1280)


def until(driver: WebDriver, found: Callable[[], T]) -> T:
    """The first value of `found` that is true. Elements that a page replaces meanwhile are looked up again."""
    ignored = (NoSuchElementException, StaleElementReferenceException)
    return WebDriverWait(driver, WAIT_S, POLL_S, ignored).until(lambda _: found())


def click(driver: WebDriver, found: Callable[[], WebElement | None]) -> None:
    """Click what `found` finds, once it is there; again where the page has replaced it meanwhile."""

    def clicked() -> bool:
        if (element := found()) is not None:
            element.click()
        return element is not None

    until(driver, clicked)


def shown(driver: WebDriver, selector: str) -> list[WebElement]:
    return [element for element in driver.find_elements(By.CSS_SELECTOR, selector) if element.is_displayed()]


def reported(driver: WebDriver) -> list[str]:
    """The errors that the browser has logged since it was last read: scripts, refused sources, failed requests."""
    log: list[dict[str, str]] = driver.get_log("browser")  # type: ignore[no-untyped-call]
    return [entry["message"] for entry in log if entry["level"] == "SEVERE"]


def violations(driver: WebDriver) -> list[tuple[str, str, list[str]]]:
    """What axe finds serious on the page as it is: the rule, its sentence, and the elements."""
    driver.execute_script(AXE_SCRIPT)
    found: dict[str, Any] = driver.execute_async_script("axe.run().then(arguments[0])")
    assert found["passes"], "axe has verified nothing"
    return [
        (each["id"], each["help"], [node["html"] for node in each["nodes"]])
        for each in found["violations"]
        if each["impact"] in SERIOUS
    ]
