"""The report in a browser: sorting, selecting, sliding, and not a single request."""

from __future__ import annotations

import base64
import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image
from report_example import example_results, example_shown

from tessella.eval.report import write_report

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

sync_api = pytest.importorskip("playwright.sync_api")

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
TIMEOUT = 90_000  # milliseconds: other work may keep the machine busy
NAMES = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"none of {', '.join(NAMES)} is installed")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=FLAGS, timeout=TIMEOUT)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "a.html"
    results = example_results(num_pictures=3, num_words=60, num_faces=20)
    write_report(results, example_shown(1), path)
    return path


@pytest.fixture(scope="module")
def page(browser: Browser, report: Path) -> Iterator[Page]:
    """The open page; at the end it must have been silent."""
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.set_default_timeout(TIMEOUT)
    requests: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(report.as_uri())
    page.wait_for_selector("#rate svg")
    yield page
    assert not complaints
    assert [url for url in requests if not url.startswith("data:")] == [report.as_uri()]
    page.close()


def _pixels(target: Page | Locator) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(target.screenshot())).convert("RGB"))


def test_it_shows_something(page: Page) -> None:
    colours = np.unique(_pixels(page).astype(np.int32) @ np.array([1 << 16, 1 << 8, 1]))
    assert len(colours) > 100


def test_a_click_on_a_header_sorts(page: Page) -> None:
    table = page.locator("#summary table").first

    def column(index: int) -> list[float]:
        cells = table.locator(f"tbody td:nth-child({index})")
        values = cells.evaluate_all("cells => cells.map(cell => cell.dataset.value)")
        return [float(value) if value else float("nan") for value in values]

    headers = table.locator("thead .title")
    titles = headers.evaluate_all("titles => titles.map(title => title.firstChild.data)")
    size, psnr = (titles.index(name) + 1 for name in ("bytes", "PSNR"))
    unsorted = column(psnr)
    header = table.locator(f"thead th:nth-child({psnr})")
    header.get_by_role("button").click()
    assert column(psnr) == sorted(unsorted, reverse=True)  # the best first
    assert header.get_attribute("aria-sort") == "descending"
    header.get_by_role("button").press("Enter")
    assert column(psnr) == sorted(unsorted)
    table.locator(f"thead th:nth-child({size}) button").click()
    assert column(size) == sorted(column(size))  # as numbers: 588 before 2,206
    assert header.get_attribute("aria-sort") is None


def test_missing_values_stay_last(page: Page) -> None:
    # qualities: the subject that meets another's bytes has none
    page.locator("#measured > summary").click()
    table = page.locator("#measured table").first
    for _ in range(2):
        table.locator("thead th:nth-child(3) button").click()
        cells = table.locator("tbody td:nth-child(3)").all_inner_texts()
        assert cells[-1] == "–"
        assert "–" not in cells[:-1]
    assert cells[:2] == ["256", "128"]
    page.locator("#measured > summary").click()


def test_the_selector_changes_the_chart(page: Page) -> None:
    chart = page.locator("#rate figure.chart").first
    before = chart.locator("svg[role=img]").inner_html()
    chart.locator("select").select_option(label="LPIPS")
    after = chart.locator("svg[role=img]").inner_html()
    assert before != after
    assert "PSNR" in before
    assert "LPIPS" in after
    assert chart.locator(".hue-0 .line").count() > 0
    assert chart.locator(".reference .line").first.get_attribute("stroke-dasharray") != "none"


def test_keys_step_through_the_points(page: Page) -> None:
    chart = page.locator("#rate figure.chart").first
    chart.locator("svg[role=img]").focus()
    page.keyboard.press("ArrowRight")
    first = chart.locator(".tip").inner_text()
    page.keyboard.press("ArrowRight")
    assert first != chart.locator(".tip").inner_text()
    assert "bits per pixel" in first
    chart.locator(".key button").first.click()
    assert chart.locator(".key button").first.get_attribute("aria-pressed") == "false"


def test_the_slider_moves_and_shows_differences(page: Page) -> None:
    slide = page.locator("figure.slide").first
    slide.scroll_into_view_if_needed()
    page.wait_for_selector("figure.slide.ready")
    view = slide.locator(".view")
    middle = _pixels(view)
    slide.locator("input").focus()
    page.keyboard.press("Home")
    reconstruction = _pixels(view)
    page.keyboard.press("End")
    original = _pixels(view)
    assert (middle != reconstruction).any()
    assert (original != reconstruction).mean() > 0.5
    width = middle.shape[1]
    assert np.array_equal(middle[20:60, 4 : width // 3], original[20:60, 4 : width // 3])
    slide.get_by_role("button", name="Difference").click()
    address = slide.locator("canvas").evaluate("canvas => canvas.toDataURL('image/png')")
    painted = Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2])))
    shown = example_shown(1)[0]
    pictures = [
        np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
        for data in (shown.original, shown.reconstruction)
    ]
    wanted = np.minimum(8 * np.abs(pictures[0] - pictures[1]), 255)
    found = np.asarray(painted.convert("RGB"))
    assert np.array_equal(found, wanted)


def test_it_fits_a_phone(browser: Browser, report: Path) -> None:
    page = browser.new_page(viewport={"width": 390, "height": 800}, color_scheme="dark")
    page.goto(report.as_uri())
    page.wait_for_selector("#rate svg")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert _pixels(page).mean() < 100  # dark
    page.close()


def test_tables_without_scripts(browser: Browser, report: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(report.as_uri())
    assert page.locator("#summary table").first.is_visible()
    assert page.locator("#time .bar").first.is_visible()
    assert not page.locator("#rate .plot").first.is_visible()
    context.close()
