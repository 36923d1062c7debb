# SPDX-License-Identifier: Apache-2.0
"""The manual builds without a warning, holds together, and says what the code says.

Skipped with the reason where Sphinx is missing; where CI is set that fails.
"""

import html.parser
import importlib.util
import inspect
import pathlib
import subprocess
import sys
import urllib.parse

import pytest
from manual import insight, source

from rbd_worker import conf, errors
from rbd_worker.insight import notices
from rbd_worker.version import VERSION
from rpcapi import client, fields
from tests import lab_session
from tests.unit.test_packaging import _entry_points

ROOT = pathlib.Path(__file__).resolve().parents[2]
DOC = ROOT / "doc"


class Page(html.parser.HTMLParser):
    """What one page refers to, its anchors, and its text."""

    def __init__(self, path: pathlib.Path) -> None:
        super().__init__()
        self.path = path
        self.links: list[str] = []
        self.needed: list[str] = []
        self.anchors: set[str] = set()
        self.text = ""
        self.codes: set[str] = set()
        self._tag = ""
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors.add(given.get("id", ""))
        self._tag = "code" if (self._tag, tag) == ("code", "span") else tag
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if "src" in given:
            self.needed.append(given["src"])
        if tag == "link" and given.get("rel") != "author":
            self.needed.append(given.get("href", ""))

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._tag == "code":
            self.codes.add(data)


def _build(folder: pathlib.Path, target: pathlib.Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html",
         "-d", str(target.with_name("doctrees")), str(folder), str(target)],
        text=True, capture_output=True, timeout=170)


@pytest.fixture(scope="module")
def tools() -> None:
    lacks = [name for name in ("sphinx", "myst_parser", "furo", "reno")
             if importlib.util.find_spec(name) is None]
    lab_session.demand(f"missing: {', '.join(lacks)}; run: make setup" if lacks else "")


@pytest.fixture(scope="module")
def built(tools: None, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The manual, as ``make docs`` builds it."""
    target = tmp_path_factory.mktemp("manual") / "html"
    done = _build(DOC, target)
    assert done.returncode == 0, done.stdout + done.stderr
    return target


@pytest.fixture(scope="module")
def pages(built: pathlib.Path) -> dict[str, Page]:
    """By path below the manual's root; Sphinx's own index and search are left out."""
    own = {path.relative_to(DOC).with_suffix(".html") for path in DOC.rglob("*.md")}
    found = {str(path): Page(built / path) for path in own}
    assert len(found) > 15
    return found


def _target(page: str, link: str) -> tuple[str, str]:
    """Page and anchor that an internal link leads to, from the root of the manual."""
    path, anchor = urllib.parse.urldefrag(link)
    if not path:
        return page, anchor
    below = pathlib.PurePosixPath(page).parent.joinpath(path)
    parts: list[str] = []
    for part in below.parts:
        if part == "..":
            parts.pop()
        else:
            parts.append(part)
    return "/".join(parts), urllib.parse.unquote(anchor)


def _is_internal(link: str) -> bool:
    return not urllib.parse.urlsplit(link).scheme


# -- the pages ----------------------------------------------------------------------


def test_every_page_is_reached_from_the_first_one(pages: dict[str, Page]) -> None:
    reached, left = set(), ["index.html"]
    while left:
        page = left.pop()
        if page not in reached and page in pages:
            reached.add(page)
            left += [_target(page, link)[0] for link in pages[page].links if _is_internal(link)]
    assert set(pages) - reached == set()


def test_every_link_within_the_manual_leads_somewhere(built: pathlib.Path,
                                                      pages: dict[str, Page]) -> None:
    broken = []
    for name, page in pages.items():
        for link in filter(_is_internal, page.links):
            path, anchor = _target(name, link)
            anchors = pages[path].anchors if path in pages else set()
            if not (built / path).exists() or (anchor and path in pages
                                               and anchor not in anchors):
                broken.append(f"{name}: {link}")
    assert broken == []


def test_reading_it_needs_no_network(built: pathlib.Path, pages: dict[str, Page]) -> None:
    for name, page in pages.items():
        for needed in page.needed:
            assert _is_internal(needed), f"{name} needs {needed}"
            assert (built / _target(name, needed)[0].partition("?")[0]).exists(), needed
    for picture in (DOC / "images").glob("*.svg"):
        text = picture.read_text()
        assert "url(\"http" not in text and "url(http" not in text and "href=\"http" not in text


def test_every_page_has_a_title_of_its_own(pages: dict[str, Page]) -> None:
    first = [(DOC / name).with_suffix(".md").read_text().splitlines()[0] for name in pages]
    assert all(line.startswith("# ") for line in first)
    assert len(set(first)) == len(first)


# -- what they say --------------------------------------------------------------------


def test_every_option_has_its_entry(pages: dict[str, Page]) -> None:
    text = pages["reference/options.html"].text
    for option in conf.WORKER_OPTS:
        assert f"[rbd_worker] {option.name}" in text
    assert "[libvirt] rbd_secret_uuid" in text


def test_every_command_has_its_help(pages: dict[str, Page]) -> None:
    text = pages["reference/commands.html"].text
    for entry in _entry_points("rbd_worker.cli"):
        assert f"usage: rbd-workerctl {entry.name}" in text


def test_every_rpc_method_has_its_row_and_all_that_travels_its_section(
        tools: None, pages: dict[str, Page]) -> None:
    from manual import remote
    page = pages["reference/rpc.html"]
    names = {name for whole in (client.Client, *remote.modules())
             for name, _ in remote.calls(whole)}
    assert {"testify", "who_holds"} <= names and "call" not in names
    assert names <= page.codes
    kinds = {kind.__name__.lower() for kind in _below(fields.Payload)}
    assert len(kinds) > 20
    assert kinds <= page.anchors


def _below(kind: type) -> set[type]:
    return {found for each in kind.__subclasses__() for found in (each, *_below(each))
            if found.__module__.startswith("rpcapi.")}


def test_every_error_stands_with_its_sentence(pages: dict[str, Page]) -> None:
    text = " ".join(pages["reference/errors.html"].text.split())
    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass)
             if issubclass(kind, errors.Error) and "msg" in vars(kind)]
    assert len(kinds) > 30
    for kind in kinds:
        if kind is not errors.Error:
            assert kind.__name__ in text and kind.msg in text


def test_the_manual_names_every_release_note(pages: dict[str, Page]) -> None:
    assert "three witnesses agree" in " ".join(pages["reference/release-notes.html"].text.split())


def test_without_git_all_release_notes_stand_under_this_version(tools: None) -> None:
    from manual import notes
    from reno import config
    text = notes.report(notes.Files(ROOT / "releasenotes/notes"),
                        config.Config(str(ROOT), "releasenotes"))
    assert f"\n{VERSION}\n====" in text
    assert "three witnesses" in text


# -- and that it would be seen if they did not --------------------------------------------


@pytest.mark.parametrize("sentence", [
    "a job runs on the guest on node2",
    "the directory of 1b2c stays: …",
    "node2 says shutoff, no job, nothing in flight: only a guest that runs elsewhere proves a "
    "leftover by itself",
], ids=lambda value: value[:20])
def test_what_the_worker_prints_may_be_quoted(sentence: str) -> None:
    assert source.says(sentence)


@pytest.mark.parametrize("sentence", [
    "a job walks on the guest on node2",
    "no worker says that its libvirt lost the guest",
    "nova-compute has not begun to love the guest",
], ids=lambda value: value[:20])
def test_nothing_else_may(sentence: str) -> None:
    assert not source.says(sentence)


@pytest.fixture
def small(tools: None, tmp_path: pathlib.Path) -> pathlib.Path:
    """A manual without pages, with the real configuration."""
    folder = tmp_path / "doc"
    folder.mkdir()
    for name in ("conf.py", "_ext", "_static"):
        (folder / name).symlink_to(DOC / name)
    return folder


def test_a_wrong_quotation_ends_the_build(small: pathlib.Path) -> None:
    (small / "behaviour").mkdir()
    (small / "behaviour/kept.md").write_text("# Kept\n\n“a job walks on the guest on node2”\n")
    (small / "index.md").write_text("# One\n\n```{toctree}\nbehaviour/kept\n```\n")
    done = _build(small, small.with_name("html"))
    assert done.returncode != 0
    assert "the worker never says 'a job walks" in done.stderr


def test_a_page_that_nobody_lists_ends_the_build(small: pathlib.Path) -> None:
    (small / "index.md").write_text("# One\n")
    (small / "lost.md").write_text("# Lost\n")
    done = _build(small, small.with_name("html"))
    assert done.returncode != 0
    assert "isn't included in any toctree" in done.stderr


def test_a_link_to_nowhere_ends_the_build(small: pathlib.Path) -> None:
    (small / "index.md").write_text("# One\n\n[two](two.md#three)\n")
    done = _build(small, small.with_name("html"))
    assert done.returncode != 0
    assert "two.md" in done.stderr


def test_every_metric_and_every_notification_has_its_row(pages: dict[str, Page]) -> None:
    codes = pages["insight.html"].codes
    assert {metric.name for metric in insight.metrics()} <= codes
    assert {event.type for event in notices.EVENTS} <= codes
    assert {*notices.MIGRATION_FIELDS, *notices.DIRECTORY_FIELDS} <= codes
