"""The page of a report in a real Chromium: an overview, views on demand, nothing from elsewhere."""

from collections.abc import Iterator

import numpy as np
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.helpers.browser import chromium
from visualization.core.pixels import data_uri
from visualization.records import Transcript
from visualization.report import Overview, Report

NAMES = ["one", "two", "three", "four", "five", "six", "seven"]
LONG = "a quantity with a long name, step 11: 0.98 (control 0.41); " * 3


def report() -> Report:
    """Return a report of many views, one of several parts, with an overview of wide cells."""
    records = {name: Transcript(f"words of {name}") for name in NAMES}
    patch = [("channel 3", data_uri(np.zeros((3, 3, 3))))]
    rows = [["stage1.block1.relu1", "16 units", LONG, patch * 3, LONG]] * 2
    columns = ["layer", "size", "best probe", "patches", "last"]
    parts = {"left": Transcript("a"), "right side": Transcript("b")}
    return Report(
        "a look", {**records, "parts": parts}, overview=Overview(columns=columns, rows=rows),
        sentences={"one": "One: <what> it shows."},
    )  # fmt: skip


@pytest.fixture(scope="module")
def driver() -> Iterator[webdriver.Chrome]:
    """Return a Chromium that looks nothing up; it ends with the module."""
    with chromium("--window-size=960,700") as browser:
        yield browser


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the address of the page."""
    return report().save(tmp_path_factory.mktemp("page") / "report.html").as_uri()


def opened(driver: webdriver.Chrome) -> list[str]:
    """Return the views that are open."""
    script = "return [...document.querySelectorAll('.view[open] h2')].map(e => e.textContent)"
    return [str(name) for name in driver.execute_script(script)]


def load(driver: webdriver.Chrome, address: str) -> None:
    """Open a page anew, also where only the part after # is another."""
    driver.get("about:blank")
    driver.get(address)


def test_the_page_begins_with_the_overview(driver: webdriver.Chrome, address: str) -> None:
    """Its rows stand above the views, which are closed lines with their sentences as text."""
    load(driver, address)
    rows = driver.find_elements(By.CSS_SELECTOR, ".overview tbody tr")
    views = driver.find_elements(By.CSS_SELECTOR, ".view")
    assert len(rows) == 2
    assert len(views) == len(NAMES) + 1
    assert rows[-1].rect["y"] < views[0].rect["y"]
    assert "One: <what> it shows." in views[0].text
    assert opened(driver) == []


def test_the_last_column_is_whole(driver: webdriver.Chrome, address: str) -> None:
    """At 960 pixels no table is wider than its box, however long the words in it are."""
    load(driver, address)
    ends = driver.execute_script(
        "return [...document.querySelectorAll('.overview')].map(e => ["
        "e.rows[0].lastElementChild.getBoundingClientRect().right,"
        "e.parentElement.getBoundingClientRect().right, innerWidth])"
    )
    assert ends
    for cell, box, window in ends:
        assert cell <= box + 1
        assert box <= window


@pytest.mark.parametrize(
    ("part", "view"), [("#three", "three"), ("#parts", "parts"), ("#parts-right-side", "parts")]
)
def test_an_address_opens_its_view(
    part: str, view: str, driver: webdriver.Chrome, address: str
) -> None:
    """A view and a part of one can be linked to, also from an open page; no other opens."""
    load(driver, address + part)
    assert opened(driver) == [view]
    assert driver.find_element(By.ID, part[1:]).is_displayed()
    load(driver, address)
    driver.execute_script("location.hash = arguments[0]", part)
    assert driver.execute_async_script("setTimeout(arguments[0], 50)") is None
    assert opened(driver) == [view]


def test_keys_open_and_close_a_view(driver: webdriver.Chrome, address: str) -> None:
    """A view is opened by Enter on its line, and all by a button."""
    load(driver, address)
    line = driver.find_element(By.CSS_SELECTOR, ".view > summary")
    line.send_keys(Keys.ENTER)
    assert opened(driver) == ["one"]
    assert driver.find_element(By.CSS_SELECTOR, "#one img").is_displayed()
    line.send_keys(Keys.ENTER)
    assert opened(driver) == []
    driver.find_element(By.CSS_SELECTOR, ".tools button").click()
    assert opened(driver) == [*NAMES, "parts"]


def test_printing_shows_all(driver: webdriver.Chrome, address: str) -> None:
    """Before a page is printed every view is opened."""
    load(driver, address)
    driver.execute_script("dispatchEvent(new Event('beforeprint'))")
    assert opened(driver) == [*NAMES, "parts"]


def test_nothing_comes_from_elsewhere(driver: webdriver.Chrome, address: str) -> None:
    """With every view open the page has asked for nothing, and no script has failed."""
    load(driver, address)
    driver.find_element(By.CSS_SELECTOR, ".tools button").click()
    script = "return performance.getEntriesByType('resource').map(e => e.name)"
    names = driver.execute_script(script)
    assert [name for name in names if not name.startswith("data:")] == []
    assert driver.get_log("browser") == []  # type: ignore[no-untyped-call]


def test_few_views_are_open_at_once() -> None:
    """A report of few views, such as one asked for by name, is read without a click."""
    few = Report("a look", {"one": Transcript("words"), "two": Transcript("others")}).html()
    assert few.count('<details class="view" open>') == 2
    assert '<details class="view" open>' not in report().html()
