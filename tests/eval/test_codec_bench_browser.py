"""The page of a bench in a browser: the selector of metrics, the deltas, the crops."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image
from tiny_model import photograph, save_tiny_model

from tessella.eval.codec_bench import bench_codecs, write_bench_page
from tessella.eval.codec_bench.equal_bytes import equal_bytes_crops
from tessella.eval.evaluation import image_set

if TYPE_CHECKING:
    from playwright.sync_api import Page

sync_api = pytest.importorskip("playwright.sync_api")

FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
TIMEOUT = 90_000  # milliseconds: other work may keep the machine busy
NAMES = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bench")
    (folder / "photos").mkdir()
    part = np.ascontiguousarray(photograph()[100:300, 200:420])
    Image.fromarray(part).save(folder / "photos" / "a.png")
    save_tiny_model(folder / "tiny")
    names = ["jpeg:10", "jpeg:40", "jpeg:80", "webp:10", "webp:40", "webp:80", str(folder / "tiny")]
    bench = bench_codecs(names, [image_set(folder / "photos")], work=folder / "work")
    crops = equal_bytes_crops(bench.setup, bench.results, count=1, side=96)
    write_bench_page(bench, crops, folder / "rd.html")
    return folder / "rd.html"


@pytest.fixture(scope="module")
def page(report: Path) -> Iterator[Page]:
    """The open page; at the end it must have been silent."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"none of {', '.join(NAMES)} is installed")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=FLAGS, timeout=TIMEOUT)
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
        browser.close()


def test_the_selector_has_all_metrics(page: Page) -> None:
    chart = page.locator("#rate figure.chart").first
    assert chart.locator("select option").all_inner_texts() == ["PSNR", "MS-SSIM", "SSIMULACRA2"]
    before = chart.locator("svg[role=img]").inner_html()
    chart.locator("select").select_option(label="SSIMULACRA2")
    assert before != chart.locator("svg[role=img]").inner_html()


def test_deltas_are_sorted_by_a_click(page: Page) -> None:
    table = page.locator("#deltas table").first
    assert table.locator("tbody tr").count() == 2
    table.locator("thead th:nth-child(2) button").click()
    cells = table.locator("tbody td:nth-child(2)")
    values = cells.evaluate_all("cells => cells.map(cell => cell.dataset.value)")
    numbers = [float(value) for value in values if value]
    assert numbers == sorted(numbers)


def test_crops_of_all_codecs_are_shown(page: Page) -> None:
    section = page.locator("#equal-bytes")
    section.scroll_into_view_if_needed()
    page.wait_for_selector("#equal-bytes figure.slide.ready")
    slides = section.locator("figure.slide")
    assert slides.count() == 3
    sizes = slides.evaluate_all("all => all.map(slide => slide.querySelectorAll('canvas').length)")
    assert all(sizes)
    label = slides.first.get_attribute("data-label")
    section.locator("select").first.select_option(label=label)
    assert section.locator("figure.slide:visible").count() == 1
