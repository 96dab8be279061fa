"""The report of an evaluation: what it says, and that nothing in it can break out."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from report_example import (
    OTHER_READER,
    READER,
    RECEIPTS,
    SIGNS,
    example_results,
    example_shown,
)

from tessella.errors import ConfigError
from tessella.eval.report import (
    Bars,
    Cell,
    Chart,
    Column,
    Fact,
    Panel,
    PictureStore,
    Point,
    Section,
    Series,
    Slide,
    Table,
    bars_html,
    chart_html,
    metric_table,
    slider_html,
    table_html,
    write_page,
    write_report,
)
from tessella.eval.report.table import best_rows
from tessella.eval.results import Results, SetInfo, Subject

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&{{ 7*7 }}"


class _Page(HTMLParser):
    """Tags with their attributes, the text of scripts, and the words outside of them."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.words: list[str] = []
        self._inside = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag
        if tag == "script":
            self.scripts.append((dict(attrs), ""))

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            attributes, text = self.scripts[-1]
            self.scripts[-1] = (attributes, text + data)
        elif self._inside != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.words)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("report") / "a.html"
    write_report(example_results(), example_shown(), path, title="Five codecs")
    assert [p.name for p in path.parent.iterdir()] == ["a.html"]
    return path.read_text("utf-8")


def test_it_says_what_was_measured(page: str) -> None:
    results, text = example_results(), _Page(page).text
    for subject in results.subjects:
        assert subject.label in text
        assert subject.settings in text
    for info in results.sets:
        assert info.name in text
        assert info.digest[:12] in text
        assert info.engine in text
    assert "Five codecs" in text
    for name, version in results.versions.items():
        assert name in text
        assert version in text
    assert results.missing["FID"] in text
    for heading in ("Summary", "Quality against rate", "Text and faces", "codebooks", "Time"):
        assert heading in text
    assert "untouched originals" in text


def test_it_loads_nothing(page: str) -> None:
    parsed = _Page(page)
    assert not re.search(r"https?://|//\w+\.\w+/|@import|url\(", page)
    for tag, attributes in parsed.tags:
        assert tag not in ("iframe", "object", "embed", "base", "form")
        for name in ("src", "href", "srcset", "action"):
            value = attributes.get(name) or ""
            assert value == "" or value.startswith(("#", "data:"))
    policies = [a.get("content") for t, a in parsed.tags if a.get("http-equiv")]
    (script,) = [text for attributes, text in parsed.scripts if not attributes]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policies[0] is not None
    assert policies[0].startswith("default-src 'none'")
    assert f"script-src 'sha256-{digest}'" in policies[0]


def test_an_original_is_embedded_once(page: str) -> None:
    shown = example_shown()
    assert len(shown) == 6
    for picture in shown:
        assert page.count(base64.b64encode(picture.original).decode()) == 1
    pictures = {base64.b64encode(p.original) for p in shown}
    pictures |= {base64.b64encode(p.reconstruction) for p in shown}
    assert len(page) < sum(map(len, pictures)) + 400_000


def test_tables_keep_engines_apart(page: str) -> None:
    tables = re.findall(r"<table aria-label=\"(.*?)\">(.*?)</table>", page, flags=re.DOTALL)
    titled = [(title, body) for title, body in tables if "T-ACC" in title + body]
    assert any(SIGNS in title and READER in title for title, _ in titled)
    assert any(RECEIPTS in title and OTHER_READER in title for title, _ in titled)
    for title, _ in titled:
        assert not (READER in title and OTHER_READER in title)
        assert (SIGNS in title) != (RECEIPTS in title)


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    results = example_results(num_pictures=2, num_words=9, num_faces=4)
    name, label = f"set {HOSTILE}", f"codec {HOSTILE}"
    subject = Subject(label, HOSTILE, 1, HOSTILE, HOSTILE)
    info = SetInfo(name, "text", 2, HOSTILE, 512, HOSTILE)
    hostile = Results(
        (subject,),
        (info,),
        {HOSTILE: HOSTILE},
        {HOSTILE: HOSTILE},
        tuple(replace(r, subject=label, dataset=name) for r in results.pictures[:2]),
        tuple(replace(r, subject=label, dataset=name) for r in results.words[:5]),
        tuple(replace(r, subject=label, dataset=name) for r in results.faces[:3]),
        tuple(
            replace(r, subject=label, dataset=name, metric=HOSTILE, note=HOSTILE)
            for r in results.figures[:1]
        ),
        tuple(replace(r, subject=label, dataset=name, part=HOSTILE) for r in results.tokens[:1]),
        {HOSTILE: HOSTILE},
    )
    shown = [
        replace(picture, dataset=name, subject=label, picture=HOSTILE, metric=HOSTILE)
        for picture in example_shown(1)
    ]
    path = tmp_path / "a.html"
    write_report(hostile, shown, path, title=HOSTILE)
    parsed = _Page(path.read_text("utf-8"))
    scripts = [attributes for attributes, _ in parsed.scripts if not attributes]
    assert len(scripts) == 1  # only the page's own
    for attributes, text in parsed.scripts:
        if attributes:
            json.loads(text)
    assert not [t for t, attributes in parsed.tags if t == "img" or "onerror" in attributes]
    assert HOSTILE in parsed.text
    charts = [json.loads(t) for a, t in parsed.scripts if a and "panels" in t]
    assert any(s["name"] == label for c in charts for p in c["panels"] for s in p["series"])


def test_an_empty_evaluation_has_a_page(tmp_path: Path) -> None:
    write_report(Results((), (), {}, {}), [], tmp_path / "a.html")
    assert "Evaluation" in _Page((tmp_path / "a.html").read_text("utf-8")).text


def test_best_values_of_a_table() -> None:
    rows = [("a", {"psnr": 30.0, "lpips": 0.2}), ("b", {"psnr": 31.0, "lpips": None})]
    table = metric_table([*rows, ("c", {"psnr": 31.0, "lpips": 0.3})], names=("psnr", "lpips"))
    assert best_rows(table) == [set(), {1, 2}, {0}]
    assert best_rows(metric_table(rows[:1], names=("psnr", "lpips"))) == [set()] * 3
    html = table_html(table)
    assert html.count('class="number best"') == 3
    assert 'data-value=""' in html
    with pytest.raises(ConfigError, match="a row of 1 cells given; expected 2"):
        table_html(Table([Column("a"), Column("b")], [[Cell("1", 1.0)]]))


def test_parts_alone_on_a_page(tmp_path: Path) -> None:
    store = PictureStore()
    keys = [store.add(p, "image/png") for p in (b"one", b"two", b"one")]
    assert keys[0] == keys[2] != keys[1]
    chart = Chart("A", "x", [Panel("p", "y", [Series("s", [Point(1, 2), Point(3, 4)])])])
    bars = Bars("B", ("one", "two"), [("a", (1.0, None)), ("b", (0.5, 0.0))], "s")
    parts = [chart_html(chart), bars_html(bars), slider_html([Slide("t", "l", *keys[:2])])]
    path = tmp_path / "a.html"
    sections = [Section("a", "Parts", parts)]
    write_page(path, "Title", "lead", [Fact("3", "things")], sections, pictures=store)
    parsed = _Page(path.read_text("utf-8"))
    (pictures,) = [json.loads(t) for a, t in parsed.scripts if a.get("id") == "picture-data"]
    assert pictures[keys[0]] == "data:image/png;base64," + base64.b64encode(b"one").decode()
    shares = [a["style"] for t, a in parsed.tags if t == "div" and "style" in a]
    assert shares == [f"--share: {share:.3f}" for share in (100, 0, 50, 0)]


def test_parts_refuse_what_they_cannot_draw() -> None:
    def chart(point: Point, scale: str = "linear") -> Chart:
        return Chart("A", "x", [Panel("p", "y", [Series("s", [point])])], x_scale=scale)  # type: ignore[arg-type]

    chart_html(chart(Point(0.0, 1.0)))
    for broken in (chart(Point(1.0, float("nan"))), chart(Point(0.0, 1.0), "log")):
        with pytest.raises(ConfigError, match="leave it out"):
            chart_html(broken)
    with pytest.raises(ConfigError, match="at least one"):
        chart_html(Chart("A", "x", []))
    for values in ((1.0,), (1.0, -1.0), (1.0, float("inf"))):
        with pytest.raises(ConfigError, match="expected 2 values"):
            bars_html(Bars("B", ("one", "two"), [("a", values)]))
    with pytest.raises(ConfigError, match="image/svg"):
        PictureStore().add(b"<svg/>", "image/svg+xml")
