"""Draw docs/images: the page of `kameleon serve` on the sample tickets, in headless Chromium.

Run it as `python -m tools.screenshots`. The tickets are judged here, so that the curve is that of a real evaluation.
"""

import json
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image
from selenium.webdriver.chrome.webdriver import WebDriver

import kameleon
from kameleon import RecordStore, SearchEngine
from kameleon.server import app
from stress.workloads.browser import chromium, serving, shaped, shown, until

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
TICKETS = ROOT / "examples" / "tickets.jsonl"
MOST_BYTES = 150_000
COLOURS = 256

JUDGED = {
    "fire hazard": ["T-1120", "T-1137", "T-1142", "T-1048", "T-1065", "T-1160"],
    "wages overdue": ["T-1134"],
    "noisy drivetrain": ["T-1037"],
    "money back": ["T-1038", "T-1079", "T-1154", "T-1140"],
    "account hacked": ["T-1040", "T-1060", "T-1122"],
    "parcel never arrived": ["T-1090", "T-1003", "T-1073"],
    "delete my personal data": ["T-1024", "T-1111"],
    "charged twice": ["T-1001", "T-1104"],
    "accessibility for blind users": ["T-1047", "T-1164"],
    "cannot log in": ["T-1028", "T-1106", "T-1147", "T-1012"],
    "arrived broken": ["T-1029", "T-1059", "T-1075"],
    "robot stuck on carpet": ["T-1010", "T-1027"],
    "cancel my order": ["T-1127", "T-1011"],
    "webhook duplicates": ["T-1108", "T-1017"],
}
"""The ids of the tickets that are relevant."""


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    with TemporaryDirectory() as folder:
        search = SearchEngine(kameleon.create_engine(f"sqlite:///{folder}/demo.db"), "static")
        RecordStore(search).insert("Ticket", map(json.loads, TICKETS.read_text("utf-8").splitlines()))
        for query, tickets in JUDGED.items():
            search.judgements.set(query, [("Ticket", ticket) for ticket in tickets])
        with serving(app(search, write=True)) as url, chromium(Path(folder)) as driver:
            for name, draw in PICTURES.items():
                draw(driver, url)
                save(driver, name)
        search.engine.dispose()


def legs(driver: WebDriver, url: str) -> None:
    """The two legs beside the fusion, with an explanation."""
    shaped(driver, 1280, 800)
    driver.get(f"{url}/?q=fire+hazard&legs=true")
    until(driver, lambda: shown(driver, ".leg-hits > li"))
    until(driver, lambda: shown(driver, ".hits [data-do=explain]"))[0].click()
    until(driver, lambda: shown(driver, ".why"))
    settled(driver)


def drawn(query: str, selector: str, width: int = 1280, **shape: str) -> Callable[[WebDriver, str], None]:
    """A function that shows the page of a query string until it has an element."""

    def draw(driver: WebDriver, url: str) -> None:
        shaped(driver, width, 800, **shape)
        driver.get(f"{url}/{query}")
        until(driver, lambda: shown(driver, selector))
        settled(driver)

    return draw


PICTURES: dict[str, Callable[[WebDriver, str], None]] = {
    "serve-search.png": legs,
    "serve-phone.png": drawn("?q=wages+overdue", ".hits > .hit", 390, scheme="dark"),
    "serve-judge.png": drawn("?tab=judge&weight=0.35", "#judge svg.curve"),
    "serve-index.png": drawn("?tab=index", "#index table", scheme="dark"),
}


def settled(driver: WebDriver) -> None:
    """Nothing moves, no request is open, and no element has the focus or the pointer."""
    idle = "return document.getAnimations().every((each) => each.playState === 'finished')"
    until(driver, lambda: driver.execute_script(idle) and not shown(driver, "[aria-busy=true], .is-busy"))
    driver.execute_script("document.activeElement.blur(); scrollTo(0, 0)")


def save(driver: WebDriver, name: str) -> None:
    """As few colours as a page has, for a small file."""
    picture = Image.open(BytesIO(driver.get_screenshot_as_png())).convert("RGB")
    path = IMAGES / name
    picture.quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
    print(name, path.stat().st_size)
    if path.stat().st_size > MOST_BYTES:
        raise SystemExit(f"{name} has more than {MOST_BYTES} bytes: make its window smaller")


if __name__ == "__main__":
    main()
