"""The page of images, in a real Chromium with real mouse and keys."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select

from tests.helpers import live as small
from tests.helpers.browser import LivePage, served
from tests.helpers.live import CLASSES, LAYER, SIZE
from visualization.attribution.gradients import input_x_gradient
from visualization.feature_maps.fields.receptive import receptive_field

# What the tiles show, as numbers: grey levels between the limits of each map.
_TILES = """
return live.panels[0].tiles.tiles.map(({canvas, limits: [low, high]}) => {
  const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  return Array.from({length: data.length / 4}, (_, at) => low + (high - low) * data[4 * at] / 255);
});
"""
_VALUES = "return Array.from(live.panels[0].canvas.drawing.values)"


class ImagePage(LivePage):
    """The page of images."""

    def drawing(self) -> NDArray[np.float32]:
        """Return the drawing (C, H, W)."""
        values = np.array(self.script(_VALUES), np.float32)
        return values.reshape(-1, SIZE, SIZE)

    def tiles(self) -> NDArray[np.float64]:
        """Return the maps (U, h, w) that the tiles show."""
        tiles = np.array(self.script(_TILES))
        side = round(tiles.shape[1] ** 0.5)
        return tiles.reshape(len(tiles), side, side)

    def probability(self, name: str, column: int = 2) -> float:
        """Return the shown probability of a class, in percent; column 3: untouched."""
        rows = self.driver.execute_script(
            "return [...document.querySelectorAll('.lv-answer tbody tr')]"
            ".map((row) => [...row.children].map((cell) => cell.textContent))"
        )
        return float(next(row for row in rows if row[0] == name)[column].rstrip(" %"))

    def stroke(self, *places: tuple[float, float]) -> None:
        """Draw with the mouse through places (x, y) in pixels of the image."""
        canvas = self.middle(".lv-overlay")
        width, height = canvas.size["width"], canvas.size["height"]
        hand = self.hand()
        for number, (x, y) in enumerate(places):
            offset = round((x / SIZE - 0.5) * width), round((y / SIZE - 0.5) * height)
            hand.move_to_element_with_offset(canvas, *offset)
            if number == 0:
                hand.click_and_hold()
        hand.release().perform()
        self.settle()

    def middle(self, selector: str) -> WebElement:
        """Return an element, scrolled to the middle of the window."""
        element = self.one(selector)
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
        return element

    def point_at_unit(self, row: int, column: int) -> None:
        """Click a unit of the chosen map."""
        canvas = self.middle(".lv-large")
        size = canvas.size
        x = round(((column + 0.5) / SIZE - 0.5) * size["width"])
        y = round(((row + 0.5) / SIZE - 0.5) * size["height"])
        self.hand().move_to_element_with_offset(canvas, x, y).click().perform()

    def pick(self, channel: int) -> None:
        """Choose a map."""
        self.one(f".lv-tile[data-channel='{channel}']").click()
        self.settle()


@pytest.fixture(scope="module")
def model() -> torch.nn.Sequential:
    """Return the network."""
    return small.network()


@pytest.fixture(scope="module")
def address(model: torch.nn.Sequential) -> Iterator[str]:
    """Return the address of its page."""
    with served(small.live(small.subject(model))) as found:
        yield found


@pytest.fixture
def page(driver: webdriver.Chrome, address: str) -> Iterator[ImagePage]:
    """Return the page, open; afterwards no script has failed, and no request left the machine."""
    found = ImagePage(driver, address)
    found.settle()
    Select(found.driver.find_elements("css selector", ".lv-right select")[0]).select_by_value(LAYER)
    found.settle()
    yield found
    assert [entry for entry in found.logs("browser") if entry["level"] == "SEVERE"] == []
    events = [json.loads(entry["message"])["message"] for entry in found.logs("performance")]
    sent = [
        e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"
    ]
    assert sent
    assert [url for url in sent if not url.startswith((address, "data:"))] == []


def expected(model: torch.nn.Sequential, image: NDArray[np.float32], until: int = 2) -> Any:
    """Return what the first layers output."""
    with torch.no_grad():
        return model.eval()[:until](torch.as_tensor(image)[None])[0].numpy()


def shares(model: torch.nn.Sequential, image: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the probabilities of the classes, in percent."""
    logits = torch.as_tensor(expected(model, image, len(model))).double()
    return 100 * logits.softmax(0).numpy()


def test_tiles_are_a_direct_pass_of_the_drawing(
    page: ImagePage, model: torch.nn.Sequential
) -> None:
    """After a stroke of the mouse, each tile is the map of what is drawn, and so is the answer."""
    before = page.drawing()
    assert np.array_equal(before, small.samples()[0])
    page.stroke((2, 2), (9, 3), (6, 10))
    drawn = page.drawing()
    assert np.abs(drawn - before).max() > 0.1
    maps = expected(model, drawn)
    extent = np.ptp(maps, axis=(1, 2), keepdims=True)
    assert np.all(np.abs(page.tiles() - maps) <= extent / 255 + 1e-5)
    shown = [page.probability(name) for name in CLASSES]
    np.testing.assert_allclose(shown, shares(model, drawn), atol=0.051)


def test_undo_and_redo_bring_drawings_back(page: ImagePage) -> None:
    """Control Z takes a stroke back, Control Y brings it again, and buttons do the same."""
    before = page.drawing()
    page.stroke((3, 3), (8, 8))
    after = page.drawing()
    page.one(".lv-overlay").send_keys(Keys.CONTROL, "z")
    assert np.array_equal(page.drawing(), before)
    page.button("Redo").click()
    assert np.array_equal(page.drawing(), after)
    page.one(".lv-overlay").send_keys(Keys.CONTROL, "z")
    page.one(".lv-overlay").send_keys(Keys.CONTROL, "y")
    assert np.array_equal(page.drawing(), after)
    page.settle()


def test_the_keyboard_draws(page: ImagePage) -> None:
    """Arrow keys move the brush, and space leaves ink there."""
    page.button("Clear").click()
    assert not page.drawing().any()
    page.one(".lv-overlay").send_keys(Keys.ARROW_RIGHT * 3, Keys.ARROW_UP * 2, Keys.SPACE)
    rows, columns = np.nonzero(page.drawing()[0])
    assert (rows.mean(), columns.mean()) == pytest.approx((3.5, 8.5))
    page.settle()


def test_a_region_of_another_sample_is_pasted(page: ImagePage) -> None:
    """What is selected here, copied from sample 3, lies where it is pasted."""
    page.button("Select").click()
    page.stroke((0.3, 0.3), (3.6, 2.6))
    number = page.one(".lv-left input[type=number]")
    number.clear()
    number.send_keys("3")
    page.button("Copy", "section[aria-label='Samples']").click()
    page.await_(lambda: "copied the selected region of image 3" in page.status())
    page.stroke((8, 6.5))
    pasted = small.samples()[3][0, :3, :4]
    expected_image = small.samples()[0][0].copy()
    expected_image[5:8, 6:10] = pasted
    assert np.array_equal(page.drawing()[0], expected_image)


def test_a_silenced_map_changes_the_answer_beside_the_untouched(
    page: ImagePage, model: torch.nn.Sequential
) -> None:
    """The answer is that of later layers without the map, and the untouched one stays."""
    page.pick(2)
    page.button("Silence map").click()
    page.settle()
    maps = torch.as_tensor(expected(model, page.drawing()))[None].clone()
    maps[:, 2] = 0
    with torch.no_grad():
        after = 100 * model[2:](maps)[0].double().softmax(0).numpy()
    np.testing.assert_allclose([page.probability(n) for n in CLASSES], after, atol=0.051)
    untouched = [page.probability(name, 3) for name in CLASSES]
    np.testing.assert_allclose(untouched, shares(model, page.drawing()), atol=0.051)
    page.one(".lv-edits button").click()
    page.settle()
    assert page.driver.find_elements("css selector", ".lv-before") == []


def test_a_map_is_painted(page: ImagePage, model: torch.nn.Sequential) -> None:
    """A unit that is painted has the value that was set, in the tile and for later layers."""
    page.pick(1)
    value = page.one(".lv-inspector input[type=number]")
    value.clear()
    value.send_keys("7")
    page.button("Paint").click()
    page.point_at_unit(6, 4)
    page.settle()
    assert page.tiles()[1, 6, 4] == pytest.approx(7)
    maps = torch.as_tensor(expected(model, page.drawing()))[None].clone()
    maps[0, 1, 6, 4] = 7
    with torch.no_grad():
        after = 100 * model[2:](maps)[0].double().softmax(0).numpy()
    np.testing.assert_allclose([page.probability(n) for n in CLASSES], after, atol=0.051)


def test_the_keyboard_paints_into_a_map(page: ImagePage) -> None:
    """With Paint on, arrow keys choose a unit without painting; space and Enter paint it."""
    page.pick(1)
    page.button("Paint").click()
    page.one(".lv-inspector input[type=number]").send_keys(Keys.END, "9")
    canvas = page.one(".lv-large")
    assert "space paints" in str(canvas.get_attribute("aria-label"))
    canvas.send_keys(Keys.ARROW_DOWN * 3, Keys.ARROW_RIGHT * 2)
    page.settle()
    assert page.driver.find_elements("css selector", ".lv-edits li") == []
    canvas.send_keys(Keys.SPACE, Keys.ARROW_RIGHT, Keys.ENTER)
    page.settle()
    cells = page.script("return live.panels[0].edits.list.map(({cells}) => cells)")
    assert cells == [[[3, 2, 19], [3, 3, 19]]]
    np.testing.assert_allclose(page.tiles()[1, 3, 2:4], 19)


def test_a_unit_is_scaled(page: ImagePage, model: torch.nn.Sequential) -> None:
    """A unit is multiplied by the value, and the rest of its map stays."""
    maps = expected(model, page.drawing())
    row, column = np.unravel_index(int(maps[1].argmax()), maps[1].shape)
    page.pick(1)
    page.point_at_unit(int(row), int(column))
    page.one(".lv-inspector input[type=number]").send_keys(Keys.END, "0")
    page.button("Scale unit").click()
    page.settle()
    maps[1, row, column] *= 10
    np.testing.assert_allclose(page.tiles()[1], maps[1], atol=np.ptp(maps[1]) / 255)


def test_the_brush_is_seen_where_the_keyboard_is(page: ImagePage) -> None:
    """Arriving at the drawing with Tab draws the brush, and leaving it takes it away."""
    is_marked = """
        const {width, height} = live.panels[0].canvas.overlay;
        const context = live.panels[0].canvas.overlay.getContext("2d");
        return context.getImageData(0, 0, width, height).data.some(Boolean);
    """
    page.driver.execute_script("arguments[0].focus()", page.one(".lv-overlay + *, .lv-draw input"))
    seen = [page.script(is_marked)]
    for _ in range(20):
        page.hand().send_keys(Keys.TAB).perform()
        seen.append(page.script(is_marked))
        assert seen[-1] == page.script("return document.activeElement.matches('.lv-overlay')")
    assert sum(seen) == 1


def test_a_unit_shows_its_field_and_its_examples(
    page: ImagePage, model: torch.nn.Sequential
) -> None:
    """Clicking a unit marks the pixels it sees, and shows patches; one of them can be drawn on."""
    page.pick(0)
    page.point_at_unit(2, 9)
    page.await_(lambda: "activation" in page.one(".lv-unit").text)
    field = receptive_field(model, LAYER, (0, 2, 9), (1, SIZE, SIZE))
    marked = page.script("return Array.from(live.panels[0].canvas.marks.field)")
    assert np.array_equal(np.array(marked, bool).reshape(SIZE, SIZE), field.pixels)
    example = page.one(".lv-example")
    number = int(example.get_attribute("title").split(":")[0].removeprefix("image "))  # type: ignore[union-attr]
    example.click()
    page.settle()
    assert np.array_equal(page.drawing(), small.samples()[number])


def test_an_attribution_lies_over_the_drawing(page: ImagePage, model: torch.nn.Sequential) -> None:
    """The heat over the drawing is that of the method for the class that is chosen."""
    section = "section[aria-label='Attribution']"
    target, method = (
        Select(e) for e in page.driver.find_elements("css selector", f"{section} select")
    )
    page.await_(lambda: len(target.options) == len(CLASSES))
    target.select_by_value("two")
    method.select_by_value("input_x_gradient")
    page.button("Show", section).click()
    page.await_(lambda: page.status() == "input_x_gradient of two")
    shown = page.script("return Array.from(live.panels[0].canvas.marks.heat)")
    right = input_x_gradient(model, page.drawing()[None], 2)[0].sum(0).numpy()
    np.testing.assert_allclose(np.reshape(shown, (SIZE, SIZE)), right, atol=1e-6)


def test_a_slider_changes_the_image_that_is_shown(page: ImagePage) -> None:
    """Blur changes the picture and the tiles but not the drawing; Reset takes it back."""
    drawn, tiles = page.drawing(), page.tiles()
    slider = page.one(
        "section[aria-label='Changes of the whole image'] .lv-field:nth-of-type(2) input"
    )
    slider.send_keys(Keys.END)
    page.await_(lambda: np.abs(page.tiles() - tiles).max() > 0.01)
    assert np.array_equal(page.drawing(), drawn)
    page.button("Reset").click()
    page.middle(".lv-tiles")  # maps that are out of sight are not asked for
    page.await_(lambda: np.allclose(page.tiles(), tiles))
    page.settle()


def test_uploads_are_taken_or_refused_in_words(page: ImagePage, tmp_path: Path) -> None:
    """A picture is drawn on; a broken one is named as such, and one too large is not sent."""
    good, broken, large = (tmp_path / name for name in ("good.png", "broken.png", "large.png"))
    Image.fromarray(np.full((20, 20), 255, np.uint8)).save(good)
    broken.write_bytes(good.read_bytes()[:50])
    large.write_bytes(b"\0" * (16 * 2**20 + 1))
    field = page.one("input[type=file]")
    field.send_keys(str(broken))
    page.await_(lambda: "file: cannot be read" in page.status())
    field.send_keys(str(large))
    page.await_(lambda: "large.png has 16.0 MiB; accepted: at most 16.0 MiB" in page.status())
    field.send_keys(str(good))
    page.await_(lambda: page.status() == "started from good.png")
    assert np.all(page.drawing() == 1)
    page.settle()


def test_frames_that_are_stale_are_dropped(page: ImagePage) -> None:
    """While one request is in flight, strokes ask for nothing more than one other."""
    asked = page.script("""
        const panel = live.panels[0], first = live.client.number;
        for (let turn = 0; turn < 50; turn += 1) panel.ask(performance.now());
        return live.client.number - first;
    """)
    assert asked == 1
    page.settle()
    assert page.script("return live.client.waiting.size") == 0


def test_the_page_connects_again(driver: webdriver.Chrome, model: torch.nn.Sequential) -> None:
    """When its socket is lost, the page says so, connects again, and goes on with the drawing."""
    with served(small.live(small.subject(model))) as address:
        page = ImagePage(driver, address)
        page.settle()
        page.stroke((2, 2), (9, 9))
        page.script("live.client.close()")
        page.await_(lambda: page.status() == "connected again")
        page.settle()
        page.stroke((9, 2), (2, 9))
        maps = page.tiles()
        assert np.ptp(maps) > 0
    page.await_(lambda: "connection is lost" in page.status())
    page.logs("browser")


def test_a_wrong_address_says_why(driver: webdriver.Chrome, address: str) -> None:
    """With another token the browser shows the reason."""
    driver.get(address.replace("/token/", "/tokem/"))
    assert "the address has another token" in driver.find_element("tag name", "body").text
    ImagePage(driver, "about:blank").logs("browser")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_nobody_is_shut_out(page: ImagePage, scheme: str, width: int) -> None:
    """axe-core finds no fault, dark or light, wide or narrow, and nothing runs over the side."""
    with page.seen(scheme, width):
        page.pick(1)
        page.button("Silence map").click()
        page.point_at_unit(3, 3)
        page.settle()
        assert page.faults() == []
