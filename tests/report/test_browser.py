"""The page in a real browser: at a desk, on a phone, in the dark, on paper, by keyboard, and without scripts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from browser import Browser

from gridctl.geography.place import Place
from gridctl.report.content import Report, report_of
from gridctl.report.page import page
from gridctl.report.palette import contrast

TEXTS = """(() => {
  const found = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walk.nextNode(); node; node = walk.nextNode()) {
    const element = node.parentElement;
    if (!node.data.trim() || !element.checkVisibility()) continue;
    if (element.closest("script, style, title, desc, .skip")) continue;
    let ground = element;
    while (ground && getComputedStyle(ground).backgroundColor === "rgba(0, 0, 0, 0)") ground = ground.parentElement;
    const style = getComputedStyle(element);
    found.push([element instanceof SVGElement ? style.fill : style.color,
                getComputedStyle(ground || document.body).backgroundColor, node.data.trim().slice(0, 40)]);
  }
  return found;
})()"""
OVERFLOWING = """[...document.querySelectorAll("body *")].filter((e) => !e.closest(".scroll, svg, .skip, pre"))
  .filter((e) => e.getBoundingClientRect().right > innerWidth + 1).map((e) => e.tagName + "." + e.className)"""


@pytest.fixture(scope="module")
def file(report: Report, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "base.html"
    path.write_text(page(report), encoding="utf-8")
    return path


def complaints(browser: Browser) -> list[dict[str, Any]]:
    """What the browser said against the page: errors, blocked resources, uncaught exceptions."""
    browser.value("1")  # whatever there is to say has been said by now
    return [
        event
        for event in browser.events
        if event["method"] == "Runtime.exceptionThrown"
        or (event["method"] == "Log.entryAdded" and event["params"]["entry"]["level"] in ("error", "warning"))
    ]


def requested(browser: Browser) -> list[str]:
    """Everything that the browser fetched."""
    sent = [event for event in browser.events if event["method"] == "Network.requestWillBeSent"]
    return [event["params"]["request"]["url"] for event in sent]


def hexadecimal(color: str) -> str:
    numbers = color.removeprefix("rgb(").removesuffix(")").split(",")
    return "#" + "".join(f"{int(number):02x}" for number in numbers)


def test_the_page_fetches_nothing_and_the_browser_has_no_complaint(browser: Browser, file: Path) -> None:
    browser.open(file)
    assert browser.value("document.documentElement.dataset.script") == "on"
    assert complaints(browser) == []
    assert requested(browser) == [file.resolve().as_uri()]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_word_stands_out_from_its_ground(browser: Browser, file: Path, scheme: str) -> None:
    browser.open(file, scheme=scheme)
    browser.value("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    texts = browser.value(TEXTS)
    assert len(texts) > 300
    faint = [
        (text, color, ground)
        for color, ground, text in texts
        if contrast(hexadecimal(color), hexadecimal(ground)) < 4.5
    ]
    assert faint == []


def test_dark_is_dark_and_paper_is_light(browser: Browser, file: Path) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    browser.open(file, scheme="dark")
    assert contrast(hexadecimal(browser.value(ground)), "#ffffff") > 15
    browser.open(file, scheme="dark", media="print")
    assert hexadecimal(browser.value(ground)) == "#ffffff"
    assert browser.value("getComputedStyle(document.querySelector('nav')).display") == "none"


@pytest.mark.parametrize("width", [320, 390, 768, 1280, 2560])
def test_nothing_is_wider_than_the_screen(browser: Browser, file: Path, width: int) -> None:
    browser.open(file, width=width)
    assert browser.value("document.documentElement.scrollWidth") <= width
    assert browser.value(OVERFLOWING) == []


def test_words_in_charts_are_readable_on_a_phone(browser: Browser, file: Path) -> None:
    browser.open(file, width=390)
    sizes = browser.value(
        """[...document.querySelectorAll("figure svg:not(#map) text")].map((t) => 11 * t.getScreenCTM().a)"""
    )
    assert len(sizes) > 50
    assert min(sizes) >= 9


def test_without_scripts_all_is_there_but_the_tools(browser: Browser, file: Path) -> None:
    browser.open(file)
    with_scripts = browser.value("document.querySelector('main').innerText")
    browser.scripts(enabled=False)
    try:
        browser.open(file)
        assert browser.value("document.documentElement.dataset.script") is None
        without = browser.value("document.querySelector('main').innerText")
        assert browser.value("[...document.querySelectorAll('.tools')].every((t) => !t.checkVisibility())")
        assert browser.value("document.querySelectorAll('svg[role=img]').length") >= 7
    finally:
        browser.scripts(enabled=True)
    tools = ("Find a place", "Filter: ", "whole map")
    lines = [line for line in with_scripts.splitlines() if not line.startswith(tools)]
    assert {line for line in lines if len(line) > 3} <= set(without.splitlines())


def test_the_keyboard_reaches_everything_in_order(browser: Browser, file: Path) -> None:
    browser.open(file)
    browser.press("Tab")
    assert browser.value("document.activeElement.className") == "skip"
    assert browser.value("document.activeElement.getBoundingClientRect().left >= 0")
    browser.press("Enter")
    assert browser.value("document.activeElement.id") == "main"
    reached = []
    for _ in range(8):
        browser.press("Tab")
        reached.append(browser.value("document.activeElement.getAttribute('aria-label') || document.activeElement.id"))
        assert browser.value("getComputedStyle(document.activeElement).outlineStyle") != "none"
    assert reached == [
        "map-find", "Zoom in", "Zoom out", "Show the whole map", "Move west", "Move east", "Move north", "Move south",
    ]  # fmt: skip


def test_a_place_is_found_and_told_in_words(browser: Browser, file: Path) -> None:
    browser.open(file)
    say = "document.getElementById('map-said').textContent"
    find = "(w) => {const f = document.getElementById('map-find'); f.value = w; f.dispatchEvent(new Event('input'))}"
    browser.value(f"({find})('nyc')")
    assert browser.value(say) == "us-nyc-01: 133 from here, 90.2% good"  # 13 of them were late
    assert browser.value("document.getElementById('map-ring').getAttribute('visibility')") == "visible"
    browser.value(f"({find})('atlantis')")
    assert browser.value(say) == "no place of that name"


def test_the_map_zooms_and_stays_within_itself(browser: Browser, file: Path) -> None:
    browser.open(file)
    box = "document.getElementById('map').getAttribute('viewBox').split(' ').map(Number)"
    step = "(s) => document.querySelector(`[data-step=${s}]`).click()"
    whole = browser.value(box)
    browser.value(f"({step})('in')")
    assert browser.value(box)[2] == pytest.approx(whole[2] * 0.6, abs=0.01)
    for _ in range(10):
        browser.value(f"({step})('west')")
        browser.value(f"({step})('north')")
    assert browser.value(box)[:2] == [0, 0]
    browser.value(f"({step})('all')")
    assert browser.value(box) == pytest.approx(whole, abs=0.01)


def test_a_long_table_is_filtered(browser: Browser, file: Path) -> None:
    browser.open(file)
    browser.value(
        """(() => {const f = document.querySelector('[data-filter=totals] input');
        f.value = 'ttft p99'; f.dispatchEvent(new Event('input'))})()"""
    )
    shown = "[...document.querySelectorAll('#totals tbody tr')].filter((r) => !r.hidden).map((r) => r.innerText)"
    (row,) = browser.value(shown)
    assert row.startswith("TTFT p99, ms")
    assert browser.value("document.querySelector('[data-filter=totals] output').textContent").startswith("1 of ")


def test_the_browser_hears_the_names_of_pictures_and_landmarks(browser: Browser, file: Path) -> None:
    browser.open(file)
    nodes = browser.ask("Accessibility.getFullAXTree")["nodes"]
    heard = {(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes if not node["ignored"]}
    roles = {role for role, _ in heard}
    assert {"banner", "navigation", "main", "contentinfo", "table", "columnheader", "rowheader"} <= roles
    assert {
        role: name for role, name in heard if role in ("image", "img", "textbox", "searchbox", "button") and not name
    } == {}
    assert any(name.startswith("Load over time") for role, name in heard if role in ("image", "img"))


def test_a_hostile_name_runs_nothing(browser: Browser, make_run: Callable, tmp_path: Path) -> None:
    name = "</script><script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">"
    made = report_of(
        make_run(name, trace=name, workload=name, origin=name),
        made_ns=0,
        places={name: Place(name, 48.0, 2.0, "FR")},
        commands=(name,),
    )
    path = tmp_path / "hostile.html"
    path.write_text(page(made), encoding="utf-8")
    browser.open(path, width=320)
    assert browser.value(OVERFLOWING) == []
    assert browser.value("document.title").startswith("Run </script>")
    assert browser.value("document.images.length") == 0
    assert complaints(browser) == []
    browser.value(
        """(() => {const f = document.getElementById('map-find');
        f.value = 'taken'; f.dispatchEvent(new Event('input'))})()"""
    )
    assert "taken" in browser.value("document.getElementById('map-said').textContent")
    assert browser.value("document.querySelectorAll('#map-said *').length") == 0
