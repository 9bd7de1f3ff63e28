"""The report as people and programs read it: HTML, Markdown, CSV and JSON of one set of figures."""

from __future__ import annotations

import csv
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from ecolyzer_otel.common.errors import ConfigError
from ecolyzer_otel.report.blocks import cell
from ecolyzer_otel.report.ranges import Amount
from ecolyzer_otel.report.render import render, write
from ecolyzer_otel.report.sections import Findings, Front
from ecolyzer_otel.report.tidy import COLUMNS
from ecolyzer_otel.report.units import amount, clean, count, digits, percent

from .conftest import findings, kept
from .made import HOUR, OCTOBER, drawn, keep, line, month, place, served

FRONT = Front("Inference report", "Example AG", OCTOBER + 1e6)
EVIL = (
    "</title><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "[click](javascript:alert(1))",
    "a|b\n# heading\n| c |",
    "{{ 7 * 7 }}{% include '/etc/passwd' %}",
    "$\\frac{1}{0}$ \\",
    "=HYPERLINK(1)",
    "\u202egnp.exe\x00\x1b[31m",
    "x" * 500,
    "模型😀",
    "`code` _a_ *b* ~c~ <b>",
    "https://evil.example www.evil.example",
)


class Page(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@pytest.fixture(scope="module")
def files(found: Findings) -> dict[str, str]:
    return render(found, FRONT)


@pytest.fixture(scope="module")
def evil(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Every name that a user can choose is one that means harm."""
    growth: dict[Any, Any] = {}
    for name in EVIL:
        labels = (name, name, "torch", "forward", name, name)
        growth |= served(labels, requests=3, active=7.0, grams=0.1, offsite=0.1, onsite=0.1)
        growth |= drawn(name, "gpu", requests=7.0, process=1.0, host=1.0, idle=2.0)
    gauges: dict[Any, Any] = place(EVIL[0], basis=EVIL[1])
    texts = [
        (OCTOBER + HOUR * n, line(n, OCTOBER + HOUR * (n - 1), OCTOBER + HOUR * n, growth, gauges, host=EVIL[1]))
        for n in (1, 2, 3)
    ]
    folder = keep(tmp_path_factory.mktemp("evil") / "j", texts)
    return render(findings(folder), Front(EVIL[0], EVIL[2], OCTOBER))


def test_the_html_needs_nothing_from_elsewhere(files: dict[str, str]) -> None:
    page = Page(files["report.html"])
    sources = [value for _, attributes in page.tags for key, value in attributes.items() if key in ("src", "href")]
    assert all(value and value.startswith("#") for value in sources)
    assert not re.search(r"@import|url\((?!#)|<script|<link|<iframe", files["report.html"])
    policy = next(a["content"] for tag, a in page.tags if tag == "meta" and a.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none'")


def test_every_link_leads_somewhere_and_ids_are_unique(files: dict[str, str]) -> None:
    page = Page(files["report.html"])
    ids = [attributes["id"] for _, attributes in page.tags if attributes.get("id")]
    assert len(ids) == len(set(ids))
    targets = {(a.get("href") or "")[1:] for tag, a in page.tags if tag == "a"}
    assert targets <= set(ids)


@pytest.mark.parametrize("section", [
    "Summary", "Figures for disclosure", "What is counted", "Over time", "Where the joules went", "By service",
    "By model", "By route", "Water", "Projection to a year", "Data quality", "Factors and their sources", "Method",
    "Glossary",
])  # fmt: skip
def test_all_sections_are_there(files: dict[str, str], section: str) -> None:
    assert section in files["report.html"]
    assert re.search(rf"^## \d+\. {section}$", files["report.md"], re.M)


def test_the_summary_says_it_in_one_sentence(files: dict[str, str]) -> None:
    text = re.search(r"^From 2026.*$", files["report.md"], re.M)
    assert text is not None
    told = text[0].replace("\u202f", " ").replace("\u00a0", " ")
    assert told == (
        "From 2026-10-01 00:00 UTC to 2026-10-03 00:00 UTC, the inference services of Example AG answered 24 000 "
        "requests with 480 000 tokens. Inference used 576 Wh (95 % range 555 to 598 Wh) of IT energy, caused "
        "34.6 g (95 % range 31.1 to 38.4 g) of location-based CO₂e (average of the grid) and consumed 2.94 L "
        "(95 % range 1.80 to 4.88 L) of water. Market-based CO₂e (by contract): 6.91 g (95 % range 6.66 to "
        "7.17 g). Embodied CO₂e of the hardware: 11.5 g, amortised by time in flight."
    )


def test_absent_figures_say_why_and_are_never_zero(tmp_path: Path) -> None:
    files = render(findings(kept(tmp_path / "j", 4, embodied=False, market=False)), FRONT)
    assert "no market-based factor configured" in files["report.html"]
    assert "Embodied CO₂e of the hardware: not configured." in files["report.html"]
    assert re.search(r"CO₂e, embodied \| not configured \|", files["report.md"])
    rows = [row for row in csv.DictReader(io.StringIO(files["figures.csv"])) if row["quantity"] == "co2e_embodied"]
    assert {row["value"] for row in rows} == {""}
    assert {row["basis"] for row in rows} >= {"not configured"}


def test_csv_and_json_hold_the_same_numbers(files: dict[str, str], found: Findings) -> None:
    rows = list(csv.DictReader(io.StringIO(files["figures.csv"])))
    document = json.loads(files["figures.json"])
    assert tuple(rows[0]) == COLUMNS
    for scope, figures in document["figures"].items():
        for figure in figures:
            for quantity, told in figure.items():
                if quantity == "labels" or told["value"] is None:
                    continue
                same = [
                    row for row in rows
                    if row["scope"] == scope and row["quantity"] == quantity
                    and all(row[name] == value for name, value in figure["labels"].items())
                ]  # fmt: skip
                assert [float(row["value"]) for row in same] == [told["value"]]
                ends = [None if not same[0][end] else float(same[0][end]) for end in ("low", "high")]
                assert ends == [told["low"], told["high"]]
                assert same[0]["unit"] == told["unit"]
    assert document["figures"]["total"][0]["energy"]["value"] == found.tables.total.value("energy")
    assert document["quality"]["covered"] == 1.0
    assert [factor["kind"] for factor in document["factors"]][:2] == ["carbon", "market"]
    assert document["period"] == {"from": "2026-10-01T00:00:00+00:00", "to": "2026-10-03T00:00:00+00:00"}


def test_the_same_figures_give_the_same_bytes(found: Findings, files: dict[str, str]) -> None:
    assert render(found, FRONT) == files


def test_plots_are_files_beside_the_markdown(files: dict[str, str]) -> None:
    linked = re.findall(r"!\[[^\]]+\]\((\w+\.svg)\)", files["report.md"])
    assert linked == ["timeline.svg", "devices.svg", "models.svg"]
    for name in linked:
        root = ElementTree.fromstring(files[name])
        assert root.tag.endswith("svg")
        assert "metadata" not in files[name]


def test_names_that_mean_harm_are_text(evil: dict[str, str]) -> None:
    page = Page(evil["report.html"])
    assert not {tag for tag, _ in page.tags} & {"script", "img", "iframe", "object", "link"}
    assert not [key for _, attributes in page.tags for key in attributes if key.startswith("on")]
    text = "".join(page.texts)
    assert "</title><script>alert(1)</script>" in text
    assert "{{ 7 * 7 }}" in text
    assert "\u202e" not in text
    assert "\x1b" not in evil["report.html"] + evil["report.md"]
    for name in ("timeline.svg", "devices.svg", "models.svg"):
        assert not [one for one in ElementTree.fromstring(evil[name]).iter() if one.tag.endswith("script")]


def test_names_that_mean_harm_are_text_in_markdown(evil: dict[str, str]) -> None:
    text = evil["report.md"]
    assert "<script" not in text
    assert "<img" not in text
    assert not re.search(r"(?<!\\)\]\(javascript", text)
    assert "https://evil" not in text
    tables = [part.split("\n") for part in re.findall(r"(?:^\|.*\n)+", text, re.M)]
    for rows in tables:
        cells = [len(re.findall(r"(?<!\\)\|", row)) for row in rows if row]
        assert len(set(cells)) == 1, "a name ended its cell"
    headings = re.findall(r"^#+ .*$", text, re.M)
    assert all(re.match(r"^(# |## \d+\. )", heading) for heading in headings)


def test_a_spreadsheet_runs_nothing(evil: dict[str, str]) -> None:
    for row in csv.reader(io.StringIO(evil["figures.csv"])):
        assert len(row) == len(COLUMNS)
        for text in row:
            assert not text.startswith(("=", "@", "+", "\t", "\r")) or re.fullmatch(r"[-+]?[\d.e+-]+", text)
    assert "'=HYPERLINK(1)" in evil["figures.csv"]


def test_the_default_zone_is_flagged_at_the_top(tmp_path: Path) -> None:
    growth: dict[Any, Any] = served(("s", "m", "torch", "f", "cpu", ""), requests=1, active=9.0, grams=1.0)
    text = line(0, OCTOBER, OCTOBER + HOUR, growth, place("WORLD", 473.0, basis="lifecycle, place not configured"))
    files = render(findings(keep(tmp_path / "j", [(OCTOBER + HOUR, text)])), FRONT)
    summary = files["report.html"].partition('id="summary"')[2].partition('id="disclosure"')[0]
    assert "The grid zone is WORLD" in summary
    assert 'class="callout severe"' in summary
    assert "**Attention.** The grid zone is WORLD" in files["report.md"]
    assert 'id="routes"' not in files["report.html"], "no route is known"


def test_nothing_but_an_idle_meter(tmp_path: Path) -> None:
    growth: dict[Any, Any] = drawn("gpu0", "gpu", requests=0.0, process=0.0, host=0.0, idle=100.0)
    text = line(0, OCTOBER, OCTOBER + HOUR, growth, place())
    files = render(findings(keep(tmp_path / "j", [(OCTOBER + HOUR, text)])), FRONT)
    assert "answered no request" in files["report.html"]
    assert 'id="models"' not in files["report.html"]
    assert json.loads(files["figures.json"])["whole_devices"]["energy"]["value"] == 100.0


def test_many_models_and_routes_are_cut_and_the_rest_told(tmp_path: Path) -> None:
    growth: dict[Any, Any] = {}
    for number in range(120):
        labels = ("shop", f"model-{number}", "torch", "forward", "cpu", f"/{number}")
        growth |= served(labels, requests=1, active=1.0 + number, grams=0.1)
    growth |= served(("shop", "__other__", "torch", "forward", "cpu", "__other__"), requests=5, active=5000.0)
    text = line(0, OCTOBER, OCTOBER + HOUR, growth, place())
    files = render(findings(keep(tmp_path / "j", [(OCTOBER + HOUR, text)])), FRONT)
    assert "96 further rows with " in files["report.html"]
    assert "(others, over the limit)" in files["report.html"]
    assert "model-3," in files["figures.csv"]


def test_a_month_of_five_models(tmp_path: Path) -> None:
    files = render(findings(month(tmp_path / "j", 10), until=OCTOBER + 10 * 86400.0), FRONT)
    assert len(files["report.html"]) < 400_000
    assert "Llama-3.1-8B-Instruct" in files["models.svg"]


def test_files_are_written_and_replaced(tmp_path: Path, files: dict[str, str]) -> None:
    for _ in range(2):
        paths = write(files, str(tmp_path / "a" / "b"))
    assert paths[0].name == "report.html"
    assert {path.name for path in (tmp_path / "a" / "b").iterdir()} == set(files)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"--out: .* cannot be written .*; give another folder"):
        write(files, str(tmp_path / "file"))


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.0, "Wh", "0 J"), (0.0000012, "Wh", "1.20 µJ"), (0.0235, "Wh", "23.5 mJ"), (3500.0, "Wh", "3 500 J"),
        (3600.0, "Wh", "1.00 Wh"), (1234567.0, "Wh", "343 Wh"), (3.6e9, "Wh", "1.00 MWh"),
        (7.2e13, "Wh", "20.0 GWh"),
        (360.0, "J", "360 J"), (999.6, "J", "1.00 kJ"), (4.2e-7, "g", "420 ng"), (0.0421, "g", "42.1 mg"),
        (999.6, "g", "1.00 kg"), (2.5e6, "g", "2.50 t"), (3.3e-5, "L", "33.0 µL"), (1530.0, "L", "1.53 m³"),
        (7200.0, "s", "2.00 h"),
    ],
)  # fmt: skip
def test_units_at_all_scales(value: float, unit: str, text: str) -> None:
    assert amount(value, unit).replace("\u202f", " ").replace("\u00a0", " ") == text


def test_numbers_as_people_read_them() -> None:
    assert (digits(0.00123456), digits(123.456), digits(99.96), digits(1e-9)) == (
        "0.00123",
        "123",
        "100",
        "1.00e-09",
    )
    assert count(1234567.4) == "1\u202f234\u202f567"
    assert [percent(x).replace("\u00a0", "").replace("\u202f", "") for x in (0.0, 1e-5, 0.123, 1.0)] == [
        "0.0%", "<0.1%", "12.3%", "100%",
    ]  # fmt: skip
    assert clean("a\u202eb\x00c") == "a\ufffdb\ufffdc"
    assert len(clean("x" * 500)) == 120
    assert cell(Amount(None, "g", why="not configured")).text == "not configured"
