# SPDX-License-Identifier: Apache-2.0
"""What a report says of migrations, whoever wrote them down."""

import argparse
import html.parser
import json
import pathlib
import time

import pytest

from rbd_worker import errors
from rbd_worker.cli import report as command
from rbd_worker.cli import times
from rbd_worker.model import Phase
from rbd_worker.report import axis, gather, moves, page, timeline
from rpcapi import history as contract
from rpcapi import trash as trash_contract
from tests.sample_report import asked
from tests.unit.conftest import MakeWorld
from tests.world import World

GUEST = "a05482ec-d71a-48c7-bf99-94d829b20aef"
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'{{7*7}}"


class Seen(html.parser.HTMLParser):
    """Elements of a page, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


def record(at: float, step: str, state: str, **data: object) -> contract.Record:
    return contract.Record(at=at, step=step, state=state, data=json.dumps(data))


def entry(*records: contract.Record, role: contract.Role = "source", outcome: str = "completed",
          opened: float = 1000, closed: float = 1010, reason: str = "",
          executor: str = "libvirt") -> contract.Entry:
    return contract.Entry(migration="m-1", instance=GUEST, role=role, source="node01",
                          destination="node02", executor=executor, opened=opened, closed=closed,
                          outcome=outcome, reason=reason, records=records)


def made_of(*parts: gather.HostPart) -> str:
    return page.render(gather.Report(900, 2000, 2000, parts))


# -- one timeline ------------------------------------------------------------------


def test_a_step_lasts_from_its_beginning_to_its_end() -> None:
    line = timeline.of(entry(record(1000, "ensure_destination_prepared", "doing"),
                             record(1003, "ensure_destination_prepared", "done", attempts=3),
                             record(1003, "ensure_guest_moved", "doing"),
                             record(1009, "ensure_guest_moved", "done", downtime_ms=34)))
    assert [(bar.name, bar.phase, bar.start, bar.end) for bar in line.bars] == [
        ("destination prepared", Phase.PRE, 1000, 1003), ("guest moved", Phase.LIVE, 1003, 1009)]
    assert (line.retries, line.downtime_ms) == (2, 34)


def test_a_step_that_was_not_done_ends_where_the_plan_turned_back() -> None:
    line = timeline.of(entry(record(1000, "ensure_files_pinned", "doing"),
                             record(1001, "ensure_files_pinned", "done"),
                             record(1001, "ensure_destination_prepared", "doing"),
                             record(1005, "turned_back", "note", reason="no room"),
                             record(1006, "ensure_files_pinned", "undoing"),
                             record(1007, "ensure_files_pinned", "undone"), outcome="failed"))
    assert [(b.name, b.start, b.end, b.is_whole) for b in line.bars[1:]] == [
        ("destination prepared", 1001, 1005, False), ("undo: files pinned", 1006, 1007, True)]
    assert line.bars[2].phase is Phase.ROLLBACK
    assert [(note.name, note.told) for note in line.notes] == [("turned back", "no room")]


def test_an_open_step_has_no_end_and_nothing_unknown_is_claimed() -> None:
    line = timeline.of(entry(record(1000, "ensure_something_new", "doing"), closed=0, outcome=""))
    assert [(bar.phase, bar.end) for bar in line.bars] == [(None, None)]
    assert (line.retries, line.downtime_ms, line.end) == (None, None, None)


def test_both_sides_are_one_migration_and_doubt_on_one_is_doubt() -> None:
    both = [("node01", entry()), ("node02", entry(role="destination", outcome="unresolved",
                                                  closed=0, reason="who knows"))]
    (move,) = moves.together(reversed(both))
    assert [side.host for side in move.sides] == ["node01", "node02"]
    assert (move.outcome, move.end) == ("unresolved", None)
    assert move.reasons == [("node02", "who knows")]


# -- the page ------------------------------------------------------------------------


def test_foreign_text_stays_text() -> None:
    item = trash_contract.TrashItem(id=HOSTILE, instance=GUEST, at=1500, reason=HOSTILE)
    plain = Seen(made_of(gather.HostPart("node01", (entry(),), trouble=("a",))))
    seen = Seen(made_of(gather.HostPart("node01", (
        entry(record(1001, HOSTILE, "note", sentence=HOSTILE), record(1001, HOSTILE, "done"),
              outcome="unresolved", closed=0, reason=HOSTILE, executor=HOSTILE),),
        (item,), trouble=(HOSTILE,))))
    assert seen.tags.count("script") == plain.tags.count("script") == 1
    assert "img" not in seen.tags
    assert [name for name, _ in seen.attributes if name.startswith("on")] == []
    assert seen.text.count(HOSTILE) >= 5
    assert {name for name, _ in seen.attributes} - {name for name, _ in plain.attributes} <= {
        "scope"}, "of the table of steps; nothing else is new"


def test_a_page_refers_to_nothing_outside_of_it() -> None:
    text = made_of(gather.HostPart("node01", (entry(),)))
    links = [value for name, value in Seen(text).attributes if name in ("href", "src", "action")]
    assert links and all((link or "").startswith(("#", "data:,")) for link in links)
    assert "http://" not in text and "https://" not in text and "url(" not in text


def test_nothing_recorded_is_one_clear_sentence() -> None:
    text = Seen(made_of(gather.HostPart("node01"))).text
    assert text.count("No migration was recorded on node01 between") == 1
    assert "The trash is empty." in text


def test_a_host_that_was_not_heard_is_named() -> None:
    def silent(_request: object) -> contract.HistoryReply:
        raise errors.PeerUnreachable(host="node09", reason="no answer")

    part = gather.part("node09", gather.Asked(silent, lambda _r: pytest.fail("asked on")), 0, 9, 9)
    assert not part.is_heard
    assert "node09" in Seen(made_of(part)).text and "does not answer" in Seen(made_of(part)).text


def test_what_is_open_from_before_is_told_and_more_than_asked_for_is_said(
        make_world: MakeWorld) -> None:
    world: World = make_world("libvirt")
    here, there = world.hosts
    world.boot(here, GUEST)
    here.ceph.extra[f"vms/{GUEST}_disk"] = frozenset({"10.0.0.1"})
    doubtful = world.migrate(GUEST, here, there)
    since = world.timeline.now
    other = world.boot(here)
    for source, destination in ((here, there), (there, here), (here, there)):
        world.migrate(other, source, destination, seconds=60)
    until = world.timeline.now
    whole = gather.part("node01", asked(here), since, until, 100)
    assert (len(whole.entries), whole.is_cut) == (4, False)
    assert doubtful.uuid in {e.migration for e in whole.entries}
    cut = gather.part("node01", asked(here), since, until, 2)
    assert (len(cut.entries), cut.is_cut, cut.entries[0].migration) == (2, True, doubtful.uuid)
    assert "raise --limit" in Seen(made_of(cut)).text


# -- places and times -----------------------------------------------------------------


def test_what_overlaps_is_drawn_in_rows() -> None:
    assert axis.stacked([(0, 5), (1, 3), (2, 9), (4, 6), (7, 8)], 2) == [0, 1, 1, 1, 0]


@pytest.mark.parametrize("seconds", [0.5, 9, 61, 3600, 86400 * 3, 86400 * 400])
def test_an_axis_has_few_ticks_at_places_of_its_own(seconds: float) -> None:
    ticks = axis.Axis(1e9 + 7, 1e9 + 7 + seconds).ticks()
    assert len(ticks) <= 8
    assert all(0 <= tick.left <= 100 for tick in ticks)
    assert [tick.left for tick in ticks] == sorted({tick.left for tick in ticks})


def test_lengths_are_told_as_people_do() -> None:
    assert [axis.length(s) for s in (0.034, 2.412, 185, 7800)] == [
        "34 ms", "2.41 s", "3 min 5 s", "2 h 10 min"]


def test_a_moment_is_an_age_or_a_date() -> None:
    assert abs(times.moment("2d") - (time.time() - 2 * 86400)) < 5
    assert times.moment("2026-11-20T14:30+01:00") == 1795181400
    assert times.moment("2026-11-20") == time.mktime((2026, 11, 20, 0, 0, 0, 0, 0, -1))
    for bad in ("yesterday", "2x", "2026-13-01", ""):
        with pytest.raises(argparse.ArgumentTypeError):
            times.moment(bad)


def test_a_page_that_cannot_be_written_leaves_nothing(tmp_path: pathlib.Path) -> None:
    command.write(tmp_path / "report.html", "old")
    with pytest.raises(errors.NotWritten, match="cannot be written"):
        command.write(tmp_path / "gone/report.html", "new")
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]
