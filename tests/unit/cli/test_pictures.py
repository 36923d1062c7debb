# SPDX-License-Identifier: Apache-2.0
"""``report``, ``trash list --host`` and the drawing of ``migration show``, as processes."""

import json
import pathlib

import pytest

from rbd_worker.host import trash_pages
from rpcapi import trash as contract
from tests.unit.cli.test_control import GUEST, Operator
from tests.unit.conftest import MakeWorld
from tests.world import Host, World


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    return make_world("libvirt")


@pytest.fixture
def operator(here: Host) -> Operator:
    return Operator(here.world.root / here.name / "nova.conf")


def moved(world: World, here: Host) -> str:
    world.boot(here, GUEST)
    return world.migrate(GUEST, here, world.hosts[1]).uuid


def test_a_report_is_one_file_that_others_may_read(world: World, here: Host, operator: Operator,
                                                   tmp_path: pathlib.Path) -> None:
    key = moved(world, here)
    done = operator.run("report", "--until", "2100-01-01", "--html", str(tmp_path / "r.html"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    text = (tmp_path / "r.html").read_text()
    assert key in text and GUEST in text and here.trashed()[0].id in text
    assert [p.name for p in tmp_path.iterdir()] == ["r.html"]


def test_a_report_on_an_empty_journal_says_so_and_succeeds(operator: Operator) -> None:
    done = operator.run("report", "--html", "-")
    assert (done.returncode, done.stderr) == (0, "")
    assert "No migration was recorded on node01 between" in done.stdout


def test_a_report_without_a_journal_is_one_sentence(tmp_path: pathlib.Path) -> None:
    from tests import world as worlds
    worlds.settings_of("node09", tmp_path / "node09", "nova")
    bare = Operator(tmp_path / "node09" / "nova.conf")
    assert "never run" in bare.sentence("report", "--html", str(tmp_path / "r.html"))
    assert not (tmp_path / "r.html").exists()


def test_times_that_make_no_sense_are_refused(operator: Operator) -> None:
    done = operator.run("report", "--since", "2026-01-02", "--until", "2026-01-01", "--html", "-")
    assert done.returncode == 2 and "not before --until" in done.stderr
    done = operator.run("report", "--since", "yesterday", "--html", "-")
    assert done.returncode == 2
    assert "is no moment such as" in done.stderr and "Traceback" not in done.stderr


def test_a_place_that_cannot_be_written_is_one_sentence(operator: Operator,
                                                        tmp_path: pathlib.Path) -> None:
    assert "cannot be written" in operator.sentence(
        "report", "--html", str(tmp_path / "gone/r.html"))


def test_a_migration_is_drawn_on_request_and_never_into_json(world: World, here: Host,
                                                             operator: Operator) -> None:
    key = moved(world, here)
    plain = operator.run("migration", "show", key).stdout
    drawn = operator.run("migration", "show", key, "--draw").stdout
    assert drawn.startswith(plain) and "█" not in plain
    picture = drawn.removeprefix(plain)
    assert picture.count("█") >= 5 and "source node01" in picture
    assert "completed after" in picture and "retries: 0" in picture
    json.loads(operator.run("migration", "show", key, "--draw", "-f", "json").stdout)


def test_a_terminal_that_has_no_such_characters_gets_others(
        world: World, here: Host, operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    key = moved(world, here)
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    done = operator.run("migration", "show", key, "--draw")
    assert (done.returncode, done.stderr) == (0, "")
    assert "??" in done.stdout


@pytest.mark.parametrize("at", [1e300, -1e300, 1e18])
def test_a_record_whose_time_is_in_no_calendar_hides_no_item(
        world: World, here: Host, operator: Operator, at: float) -> None:
    moved(world, here)
    (item,) = here.trashed()
    path = here.path / ".rbd-worker" / "trash" / item.id / "record.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | {"at": at}))
    (row,) = operator.rows("trash", "list")
    assert (row["Id"], row["At"]) == (item.id, f"{at:g} s since 1970")
    assert operator.run("trash", "restore", item.id).returncode == 0


def test_the_trash_is_told_page_by_page(world: World, here: Host, operator: Operator) -> None:
    there = world.hosts[1]
    moved(world, here)
    world.migrate(GUEST, there, here)
    world.migrate(GUEST, here, there)
    ids = [item.id for item in here.trashed()]
    assert len(ids) == 2
    told = trash_pages.TrashPages("node01", here.alive.ports.trash)
    first = told.page(contract.TrashRequest(limit=1))
    assert contract.TrashReply.from_wire(first.to_wire()) == first
    assert (first.total, [item.id for item in first.items]) == (2, ids[:1])
    assert first.bytes == sum(item.bytes for item in here.trashed())

    def page(request: contract.TrashRequest) -> contract.TrashReply:
        return told.page(contract.TrashRequest(skip=request.skip, limit=1))

    assert [i.id for p in contract.pages(page, 10) for i in p.items] == ids
    assert [i.id for p in contract.pages(page, 1) for i in p.items] == ids[:1]
    assert [row["Id"] for row in operator.rows("trash", "list", "--limit", "1")] == ids[:1]
