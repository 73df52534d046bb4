"""The overlay's interactive page, in a real Chromium with real mouse and keys."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from tests.helpers.browser import chromium
from visualization.core.registry import fragment
from visualization.recurrent import overlay_page
from visualization.recurrent.overlay import LayerHeatmap, UnitTextHeatmap
from visualization.recurrent.queries import find_matches

NUM_SAMPLES, NUM_UNITS = 12, 16
PLUS, CONSTANT, RISING = 4, 7, 10  # planted units
WRONG, NASTY = (2, 5, 9), "</script><b>1+1</b><!-- = 2"


def part(name: str, num_steps: int, seed: int, *, writes: bool) -> LayerHeatmap:
    """Return a layer whose values are far from every threshold that a test sets."""
    generator = np.random.default_rng(seed)
    reads = generator.choice(list("\n0123456789+"), (NUM_SAMPLES, num_steps))
    reads[3, 1], reads[3, 2] = "+", "5"
    levels = generator.choice([-1.0, -0.5, 0.0, 0.2, 0.6, 1.0], (NUM_SAMPLES, num_steps, NUM_UNITS))
    levels[:, 1:] = np.where(
        generator.random(levels[:, 1:].shape) < 0.6, levels[:, :-1], levels[:, 1:]
    )
    levels[:, :, PLUS] = np.where(reads == "+", 1.0, -0.5)
    levels[:, :, CONSTANT] = 0.5
    levels[:, :, RISING] = np.arange(num_steps) / num_steps
    hidden = levels.astype(np.float32)
    role = np.array(["detector of +" if unit == PLUS else "" for unit in range(NUM_UNITS)])
    score = np.where(role != "", 0.97, np.arange(NUM_UNITS) / 100)
    score[0] = np.nan
    return LayerHeatmap(
        name=name,
        quantities={"h": hidden, "c": 2 * hidden},
        input_symbols=reads,
        output_symbols=np.roll(reads, -1, axis=1) if writes else None,
        unit_notes={"role": role, "score": score},
    )


def overlay() -> UnitTextHeatmap:
    """Return two layers over twelve samples, three of them answered wrongly."""
    labels = [f"{sample}+{sample} = {2 * sample}" for sample in range(NUM_SAMPLES)]
    labels[1] = NASTY
    right = np.array([sample not in WRONG for sample in range(NUM_SAMPLES)])
    parts = (part("encoder", 8, 0, writes=False), part("decoder", 5, 1, writes=True))
    return UnitTextHeatmap("Cells of </script> an adder", parts, tuple(labels), right)


RECORD = overlay()


class Page:
    """A page with the overlay, as a reader's hand and eye have it."""

    def __init__(self, driver: webdriver.Chrome, file: Path) -> None:
        self.driver, self.file = driver, file

    def open(self, state: str = "") -> None:
        """Open the page afresh at an address with that hash."""
        self.driver.get("about:blank")
        self.driver.get(self.file.as_uri() + state)

    def hand(self) -> ActionChains:
        """Return a mouse and a keyboard; its moves take no time."""
        return ActionChains(self.driver, duration=0)

    def one(self, selector: str) -> WebElement:
        """Return the first element that a selector finds."""
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def character(self, sample: int, step: int) -> WebElement:
        """Return one character of one line."""
        return self.one(f".ov-char[data-sample='{sample}'][data-step='{step}']")

    def all(self, selector: str, expression: str = "e.textContent") -> list[Any]:
        """Return what a JavaScript expression says of each element `e` that a selector finds."""
        script = f"return [...document.querySelectorAll(arguments[0])].map((e) => {expression})"
        return list(self.driver.execute_script(script, selector))

    def units(self) -> list[int]:
        """Return the units in the table, in its order."""
        return self.all(".ov-units tr", "Number(e.dataset.unit)")

    def lines(self) -> list[int]:
        """Return the samples in the list of lines, in its order."""
        return self.all(".ov-line", "Number(e.dataset.sample)")

    def background(self, sample: int, step: int) -> str:
        """Return the computed colour behind a character."""
        return self.character(sample, step).value_of_css_property("background-color")

    def await_(self, condition: Callable[[], object]) -> None:
        """Wait until a condition holds."""
        WebDriverWait(self.driver, 5, poll_frequency=0.02).until(lambda _: condition())

    def pick(self, unit: int) -> None:
        """Click a unit's row and wait until it is the chosen one."""
        self.one(f".ov-units tr[data-unit='{unit}']").click()
        self.await_(lambda: self.all(".ov-chosen[data-unit]", "e.dataset.unit")[0] == str(unit))


@pytest.fixture(scope="module")
def driver() -> Iterator[webdriver.Chrome]:
    """Return a Chromium that looks nothing up; it ends with the module."""
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(driver: webdriver.Chrome, tmp_path: Path) -> Iterator[Page]:
    """Return the overlay's page, open; afterwards no script may have failed."""
    file = tmp_path / "page.html"
    file.write_text(f'<!doctype html><html lang="en"><meta charset="utf-8">{fragment(RECORD)}')
    page = Page(driver, file)
    page.open()
    yield page
    assert driver.get_log("browser") == []  # type: ignore[no-untyped-call]
    assert driver.execute_script("return performance.getEntriesByType('resource').length") == 0


def test_the_page_needs_nothing_else() -> None:
    """The fragment names no address, and its data cannot end the element that they stand in."""
    html = fragment(RECORD)
    assert not re.search(r"https?:|src=|@import|url\(", html)
    data = re.search(r'class="ov-data">(.*?)</script>', html, re.DOTALL)
    assert data is not None
    assert "<" not in data[1]
    assert html.count("</script>") == 2


def test_the_page_stays_small() -> None:
    """A hundred samples of a large adder make a page of less than four megabytes."""
    values = np.random.default_rng(0).normal(size=(100, 17, 128)).astype(np.float32)
    reads = np.full((100, 17), "1")
    layer = LayerHeatmap("encoder", dict.fromkeys("hcifgo", values), reads, None, {})
    big = UnitTextHeatmap("", (layer, layer), ("1+1 = 2",) * 100, np.ones(100, bool))
    assert len(fragment(big)) < 4_000_000


def test_values_that_are_not_finite_are_refused() -> None:
    """A NaN is an error that names the quantity."""
    with pytest.raises(ValueError, match="quantity c: has NaN"):
        overlay_page._quantity("c", np.full((1, 1, 1), np.nan, np.float32))


def test_labels_are_text(page: Page) -> None:
    """A label and a title with markup in them are shown as they are written."""
    assert page.all(".ov-label")[1].strip() == NASTY
    assert page.one(".ov-title").text == RECORD.title
    assert page.all(".ov-label b") == []


@pytest.mark.parametrize(("quantity", "sample", "step"), [("h", 3, 1), ("c", 8, 4)])
def test_a_character_shows_every_unit(page: Page, quantity: str, sample: int, step: int) -> None:
    """Hovering a character shows each unit's value then, and names the eight strongest."""
    page.open(f"#part=encoder&quantity={quantity}&unit=2")
    page.hand().move_to_element(page.character(sample, step)).perform()
    page.await_(lambda: f"step {step} of 0–7" in page.one(".ov-when").text)
    assert RECORD.labels[sample] in page.one(".ov-when").text
    values = RECORD.layers[0].quantities[quantity][sample, step]
    names, shown = zip(*page.all(".ov-square", "e.title.split(': ')"), strict=True)
    assert names == tuple(f"unit {unit}" for unit in range(NUM_UNITS))
    assert [float(value) for value in shown] == pytest.approx(values, abs=0.02)
    strongest = [float(chip.split()[1]) for chip in page.all(".ov-strongest .ov-unit")]
    assert np.abs(strongest) == pytest.approx(np.sort(np.abs(values))[::-1][:8], abs=0.02)


def test_focus_shows_what_hovering_shows(page: Page) -> None:
    """Arrow keys move from character to character, and the squares follow."""
    page.character(0, 0).click()
    page.hand().send_keys(Keys.ARROW_RIGHT, Keys.ARROW_DOWN).perform()
    page.await_(lambda: "step 1 of 0–7" in page.one(".ov-when").text)
    assert NASTY in page.one(".ov-when").text


def test_a_picked_unit_colours_the_characters(page: Page) -> None:
    """Positive is orange, negative blue, zero white, and equal values have equal colours."""
    reads = RECORD.layers[0].input_symbols
    page.pick(PLUS)
    high, low = page.background(3, 1), page.background(3, 2)
    red, _, blue, _ = zip(*(re.findall(r"\d+", each) for each in (high, low)), strict=True)
    assert int(red[0]) > int(blue[0])
    assert int(red[1]) < int(blue[1])
    for sample, step in ((0, 3), (7, 6), (11, 2)):
        assert page.background(sample, step) == (high if reads[sample, step] == "+" else low)
    page.pick(RISING)
    assert page.background(3, 0) == page.background(9, 0) == "rgba(255, 255, 255, 1)"
    assert len({page.background(3, step) for step in range(8)}) == 8


def test_the_layers_scale_can_be_taken(page: Page) -> None:
    """On the layer's scale a unit that stays below the largest value is paler."""
    page.pick(RISING)
    own = page.background(0, 7)
    assert page.one(".ov-high").text == "0.88"
    page.one(".ov-layer-scale").click()
    page.await_(lambda: page.one(".ov-high").text == "1.0")
    assert page.background(0, 7) != own


def test_squares_and_keys_pick_units(page: Page) -> None:
    """A click on a square picks its unit, and arrow keys pick the neighbouring rows."""
    page.hand().move_to_element(page.character(0, 0)).perform()
    page.await_(lambda: page.all(".ov-square", "e.title")[0])
    page.one(f".ov-square[data-unit='{PLUS}']").click()
    page.await_(lambda: page.one(".ov-picked b").text == f"unit {PLUS}")
    assert "role: detector of +" in page.one(".ov-picked").text
    units = page.units()
    page.pick(units[0])
    page.one(".ov-table").send_keys(Keys.ARROW_DOWN, Keys.ARROW_DOWN, Keys.ARROW_UP)
    page.await_(lambda: page.one(".ov-picked b").text == f"unit {units[1]}")


def test_units_are_sorted_by_each_column(page: Page) -> None:
    """A click on a header sorts, another reverses; an unknown value stands last both times."""
    deviation = RECORD.layers[0].quantities["h"].std((0, 1), dtype=np.float64)
    varying = [unit for unit in range(NUM_UNITS) if unit != CONSTANT]
    assert page.units() == sorted(varying, key=lambda unit: -deviation[unit])

    def click(name: str) -> list[int]:
        page.one(f".ov-headers th:nth-child({name}) button").click()
        return page.units()

    assert click("1") == varying
    assert click("1") == varying[::-1]
    by_score = [PLUS, *(unit for unit in varying[::-1] if unit not in (PLUS, 0)), 0]
    assert click("4") == by_score
    assert click("4") == [*by_score[-2::-1], 0]
    assert click("3")[-1] == PLUS


def test_units_are_filtered_by_words(page: Page) -> None:
    """Only the rows that contain every word stay, and their number is shown."""
    page.one(".ov-unit-filter").send_keys("DETECT")
    page.await_(lambda: page.one(".ov-unit-count").text == f"1 of {NUM_UNITS} units")
    assert page.units() == [PLUS]
    page.one(".ov-unit-filter").send_keys(" nowhere")
    page.await_(lambda: page.units() == [])


def test_the_slider_hides_constant_units(page: Page) -> None:
    """The constant unit is hidden and dimmed at first; at zero it stands in the table."""
    page.hand().move_to_element(page.character(0, 0)).perform()
    dimmed = f".ov-square.ov-hidden-unit[data-unit='{CONSTANT}']"
    page.await_(lambda: len(page.all(dimmed)) == 1)
    assert CONSTANT not in page.units()
    assert page.one(".ov-unit-count").text == f"15 of {NUM_UNITS} units"
    page.one(".ov-least").send_keys(Keys.HOME)
    page.await_(lambda: CONSTANT in page.units())
    assert page.one(".ov-unit-count").text == f"16 of {NUM_UNITS} units"
    assert page.all(dimmed) == []
    page.one(".ov-least").send_keys(Keys.END)
    page.await_(lambda: len(page.units()) == 1)


def test_lines_are_sorted(page: Page) -> None:
    """Lines stand as given, wrong first, or by the picked unit's highest or lowest value."""
    page.pick(2)
    given, values = list(range(NUM_SAMPLES)), RECORD.layers[0].quantities["h"][:, :, 2]
    orders = {
        "wrong": sorted(given, key=lambda sample: sample not in WRONG),
        "highest": sorted(given, key=lambda sample: -values[sample].max()),
        "lowest": sorted(given, key=lambda sample: values[sample].min()),
        "given": given,
    }
    for name, order in orders.items():
        page.one(f".ov-line-order option[value='{name}']").click()
        assert page.lines() == order, name


def test_lines_are_filtered(page: Page) -> None:
    """Lines are kept by a part of their label and by being wrong, which is red."""
    page.one(".ov-line-filter").send_keys("1+1")
    page.await_(lambda: page.lines() == [1, 11])
    page.one(".ov-line-filter").clear()
    page.one(".ov-wrong-only").click()
    page.await_(lambda: page.lines() == list(WRONG))
    assert page.one(".ov-label").value_of_css_property("color") == "rgba(179, 38, 30, 1)"
    page.one(".ov-wrong-only").click()
    page.await_(lambda: page.lines() == list(range(NUM_SAMPLES)))
    assert page.one(".ov-label").value_of_css_property("color") == "rgba(34, 34, 34, 1)"


@pytest.mark.parametrize(
    ("part_index", "quantity", "steps", "threshold"),
    [(0, "h", (2, 3), 0.3), (0, "c", (5, 3), 0.3), (0, "c", (1, 1), 0.9), (1, "c", (0, 3), 0.3)],
)
def test_matches_are_those_of_python(
    page: Page, part_index: int, quantity: str, steps: tuple[int, int], threshold: float
) -> None:
    """Dragging over a span lists its on units and the matches that find_matches gives."""
    layer = RECORD.layers[part_index]
    page.open(f"#part={layer.name}&quantity={quantity}&unit=0")
    first, last = (page.character(3, step) for step in steps)
    page.hand().click_and_hold(first).move_to_element(last).release().perform()
    for _ in range(round((threshold - 0.3) * 10)):
        page.one(".ov-on-from").send_keys(Keys.PAGE_UP)
    sign = "tanh ≥" if quantity == "c" else "≥"
    page.await_(lambda: page.one(".ov-on-shown").text == f"{sign} {threshold}")
    values = layer.quantities[quantity]
    scored = np.tanh(values) if quantity == "c" else values
    expected = find_matches(scored, 3, min(steps), max(steps) + 1, threshold)
    assert len(expected.matches) > 2
    assert page.all(".ov-on-units .ov-unit b") == [str(unit) for unit in expected.units]
    fields = "[e.dataset.sample, e.dataset.start, e.dataset.stop, e.dataset.on, e.dataset.run]"
    found = [
        [str(n) for n in (m.sample, m.start, m.stop, m.num_on, m.run)] for m in expected.matches
    ]
    assert page.all(".ov-match", fields) == found
    shared = [",".join(map(str, match.shared)) for match in expected.matches]
    assert page.all(".ov-match", "e.dataset.shared") == shared


def test_spans_are_selected_marked_and_cleared(page: Page) -> None:
    """Click and shift-click select, a clicked match is marked and seen, Escape clears."""
    page.character(3, 2).click()
    page.hand().key_down(Keys.SHIFT).click(page.character(3, 4)).key_up(Keys.SHIFT).perform()
    page.await_(lambda: page.all(".ov-in-span", "e.dataset.step") == ["2", "3", "4"])
    page.character(3, 6).click()
    page.await_(lambda: page.all(".ov-in-span", "e.dataset.step") == ["6"])
    page.hand().key_down(Keys.SHIFT).click(page.character(3, 4)).key_up(Keys.SHIFT).perform()
    page.await_(lambda: page.all(".ov-in-span", "e.dataset.step") == ["4", "5", "6"])
    page.one(".ov-wrong-only").click()
    hidden = next(s for s in page.all(".ov-match", "e.dataset.sample") if int(s) not in WRONG)
    match = page.one(f".ov-match[data-sample='{hidden}']")
    steps = range(*(int(match.get_attribute(f"data-{end}") or -1) for end in ("start", "stop")))
    match.click()
    expected = [[hidden, str(step)] for step in steps]
    page.await_(lambda: page.all(".ov-in-match", "[e.dataset.sample, e.dataset.step]") == expected)
    line, box = page.one(f".ov-line[data-sample='{hidden}']").rect, page.one(".ov-lines").rect
    assert 0 <= line["y"] - box["y"] <= box["height"] - line["height"]
    page.hand().send_keys(Keys.ESCAPE).perform()
    page.await_(lambda: not page.all(".ov-in-span, .ov-in-match"))
    assert not page.one(".ov-query").is_displayed()


def test_what_is_written_stands_under_what_is_read(page: Page) -> None:
    """A layer that writes has a second row of characters, one that only reads has none."""
    assert page.all(".ov-char i") == []
    page.one(".ov-parts button:nth-child(2)").click()
    written = RECORD.layers[1].output_symbols
    assert written is not None
    expected = ["⏎" if character == "\n" else character for character in written.ravel()]
    page.await_(lambda: page.all(".ov-char i") == expected)


def test_the_address_keeps_the_state(page: Page) -> None:
    """What was chosen stands in the address, which opens so again."""
    page.one(".ov-parts button:nth-child(2)").click()
    page.one(".ov-quantities button:nth-child(2)").click()
    page.pick(PLUS)
    state = f"#part=decoder&quantity=c&unit={PLUS}"
    assert page.driver.current_url.endswith(state)
    page.open(state)
    assert page.all("[aria-pressed='true']") == ["decoder", "c"]
    assert page.one(".ov-picked b").text == f"unit {PLUS}"
    page.driver.execute_script("location.hash = '#part=encoder&quantity=h&unit=2'")
    page.await_(lambda: page.one(".ov-picked b").text == "unit 2")
    assert page.all("[aria-pressed='true']") == ["encoder", "h"]


def test_two_overlays_share_a_page(page: Page) -> None:
    """Each of two overlays on a page answers to its own controls and its own address."""
    page.file.write_text(f'<!doctype html><meta charset="utf-8">{2 * fragment(RECORD)}')
    page.open(f"#part=decoder&quantity=c&unit={PLUS}&overlay=2")
    assert page.all("[aria-pressed='true']") == ["encoder", "h", "decoder", "c"]
    page.one(".ov-quantities button:nth-child(2)").click()
    page.await_(lambda: page.all("[aria-pressed='true']") == ["encoder", "c", "decoder", "c"])
    assert page.all(".ov-picked b")[1] == f"unit {PLUS}"
