# SPDX-License-Identifier: Apache-2.0
"""The report as a browser shows it: a real Chromium, no lab.

Skipped with the reason where none is installed; where CI is set that fails.
"""

import collections.abc
import os
import pathlib

import pytest

from devstack.lab import processes
from tests import lab_session, sample_report
from tests.functional import browser as browsers
from tests.functional.browser import Browser

SHOWN = "[...document.querySelectorAll('.move')].filter(m => !m.hidden)"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> collections.abc.Iterator[Browser]:
    lab_session.demand(browsers.why_not())
    folder = tmp_path_factory.mktemp("r")
    sample_report.write(folder / "report.html")
    with browsers.started(folder / "profile") as browser:
        browser.open((folder / "report.html").as_uri())
        yield browser


@pytest.fixture(autouse=True)
def as_opened(page: Browser) -> None:
    """Desktop width, light, nothing filtered."""
    page.resize(1280, 900)
    page.emulate()
    page.run("document.getElementById('filters').reset()")
    page.run("new Promise(done => setTimeout(done, 20))")


def chosen(page: Browser, name: str, value: str) -> int:
    """Set one filter as a reader does; how many migrations are shown then."""
    page.run(f"(() => {{const f = document.getElementById('filters').elements['{name}'];"
             f"f.value = {value!r}; f.dispatchEvent(new Event('input', {{bubbles: true}}))}})()")
    return int(page.run(f"{SHOWN}.length"))


def test_it_loads_without_a_complaint_and_asks_for_nothing(page: Browser) -> None:
    assert page.told("Runtime.exceptionThrown") == []
    assert page.told("Runtime.consoleAPICalled") == []
    assert page.told("Log.entryAdded") == []
    urls = [each["request"]["url"] for each in page.told("Network.requestWillBeSent")]
    assert [url for url in urls if not url.startswith(("file:", "data:,"))] == []
    assert len([url for url in urls if url.startswith("file:")]) == 1


def test_a_script_from_elsewhere_would_not_run(page: Browser) -> None:
    page.run("(() => {const s = document.createElement('script'); s.textContent = 'window.bad=1';"
             "document.body.append(s)})()")
    assert page.run("window.bad === undefined")
    page.events.clear()  # the complaint that the policy makes of it


def test_filters_show_what_they_say(page: Browser) -> None:
    every = page.run(f"{SHOWN}.length")
    assert every == 42
    by_outcome = {each: chosen(page, "outcome", each) for each in (
        "completed", "failed", "cancelled", "unresolved", "open")}
    assert by_outcome["unresolved"] == by_outcome["open"] == 1
    assert by_outcome["failed"] > 0 and sum(by_outcome.values()) == every
    chosen(page, "outcome", "failed")
    with_secret = chosen(page, "text", "NO SECRET")
    assert 0 < with_secret < by_outcome["failed"]
    assert page.run("document.getElementById('count').textContent") == (
        f"{with_secret} of 42 migrations shown")
    page.run("document.querySelector('#filters button').click()")
    page.run("new Promise(done => setTimeout(done, 20))")
    assert page.run(f"{SHOWN}.length") == every


def test_host_and_instance_filter_the_trash_and_the_lanes_too(page: Browser) -> None:
    here = chosen(page, "host", "node02")
    assert 0 < here < 42
    assert page.run(f"{SHOWN}.every(m => m.querySelector('.way').textContent.includes('node02'))")
    items = "[...document.querySelectorAll('.cards .row')].filter(r => !r.hidden)"
    assert page.run(f"{items}.length > 0 && {items}.every(r => r.dataset.hosts === 'node02')")
    chosen(page, "host", "")
    instance = page.run("document.querySelector('.move .instance').textContent")
    shown = chosen(page, "instance", instance[:8])
    assert 0 < shown < 42
    marks = page.run("[...document.querySelectorAll('a.mark')].filter(m => !m.hidden)"
                     f".every(m => m.dataset.instance === '{instance}')")
    assert marks


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_nothing_is_wider_than_the_screen(page: Browser, width: int) -> None:
    page.resize(width, 800, mobile=width < 700)
    page.run("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert page.run("document.documentElement.scrollWidth") <= width
    page.run("document.querySelectorAll('details').forEach(d => d.open = false)")


def test_a_migration_opens_by_the_keyboard_and_shows_its_steps(page: Browser) -> None:
    page.run("document.querySelector('.move > summary').focus()")
    page.press("Enter", 13)
    assert page.run("document.querySelector('.move').open")
    assert page.run("document.querySelector('.move .gantt').offsetHeight") > 0
    assert page.run("document.querySelectorAll('.move[open] .gantt .bar').length") > 3
    widths = page.run("['th', '.cell', '.took'].map(c => document.querySelector("
                      "`.move[open] .gantt tbody ${c}`).offsetWidth)")
    assert widths[1] > 1.5 * widths[0] > 3 * widths[2], "most of the room is the bars'"


def test_a_mark_leads_to_its_migration(page: Browser) -> None:
    page.run("document.querySelector('a.mark.failed').click()")
    processes.wait_until(
        lambda: page.run("document.querySelector(decodeURIComponent(location.hash) || 'a').open")
        is True, 10, "the migration of the mark, opened")


def test_every_field_has_a_label_and_the_texts_a_contrast(page: Browser) -> None:
    assert page.run("[...document.querySelectorAll('input, select')].every(f => f.labels.length)")
    for scheme in ("light", "dark"):
        page.emulate(scheme=scheme)
        assert page.run(_CONTRAST) >= 4.5, scheme


def test_paper_has_no_filters_and_black_text_whatever_the_screen(page: Browser) -> None:
    page.emulate(media="print", scheme="dark")
    assert page.run("getComputedStyle(document.querySelector('.filters')).display") == "none"
    assert page.run("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    assert page.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def test_pictures_for_people_are_kept_where_asked_for(page: Browser) -> None:
    """With RBD_WORKER_PICTURES=DIRECTORY; else only that there is something to see."""
    folder = os.environ.get("RBD_WORKER_PICTURES")
    page.run("window.scrollTo(0, 0)")
    page.run("document.querySelectorAll('.move')[4].open = true")
    for name, width, height, scheme in (("report", 1280, 1500, "light"),
                                        ("report-dark", 1280, 1500, "dark"),
                                        ("report-phone", 390, 2800, "light")):
        page.resize(width, height)
        page.emulate(scheme=scheme)
        picture = page.picture()
        assert picture.startswith(b"\x89PNG") and len(picture) > 20_000
        if folder:
            (pathlib.Path(folder) / f"{name}.png").write_bytes(picture)


#: The least contrast of badges and quiet text with what is behind them (WCAG 2.1, 1.4.3).
_CONTRAST = """(() => {
  const rgb = c => c.match(/[0-9.]+/g).map(Number);
  const light = c => rgb(c).slice(0, 3).map(v => v / 255)
    .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, n) => sum + v * [0.2126, 0.7152, 0.0722][n], 0);
  const behind = e => {
    for (; e; e = e.parentElement) {
      const c = rgb(getComputedStyle(e).backgroundColor);
      if (c.length === 3 || c[3] > 0) return getComputedStyle(e).backgroundColor;
    }
    return 'rgb(255, 255, 255)';
  };
  const ratio = e => {
    const both = [light(getComputedStyle(e).color), light(behind(e))].sort((a, b) => b - a);
    return (both[0] + 0.05) / (both[1] + 0.05);
  };
  return Math.min(...[...document.querySelectorAll('.badge, .quiet, a, dt, dd, small, .tick, th')]
    .filter(e => e.textContent.trim()).map(ratio));
})()"""
