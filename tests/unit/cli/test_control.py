# SPDX-License-Identifier: Apache-2.0
"""``rbd-workerctl`` as an operator uses it: a process, a real journal and a real trash."""

import json
import pathlib
import subprocess
import sys
import typing as ty

import pytest

from devstack import conductor
from tests import world as worlds
from tests.unit.conftest import MakeWorld
from tests.world import Host, World

GUEST = "a05482ec-d71a-48c7-bf99-94d829b20aef"
COMMANDS = ["status", "audit", "migration list", "migration show", "refusal list", "trash list",
            "trash show", "trash restore", "trash purge", "path accept"]


class Operator:
    """Runs commands on one host."""

    def __init__(self, config: pathlib.Path) -> None:
        self._config = config
        self._script = pathlib.Path(sys.executable).with_name("rbd-workerctl")

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([self._script, "--config-file", str(self._config), *words],
                              text=True, capture_output=True, timeout=60)

    def rows(self, *words: str) -> list[dict[str, ty.Any]]:
        done = self.run(*words, "-f", "json")
        assert (done.returncode, done.stderr) == (0, "")
        return ty.cast(list[dict[str, ty.Any]], json.loads(done.stdout))

    def sentence(self, *words: str) -> str:
        """What is said of a command that cannot be done."""
        done = self.run(*words)
        assert done.returncode == 1
        assert done.stdout == ""
        (line,) = done.stderr.splitlines()
        assert line.startswith("rbd-workerctl: ")
        return line


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    return make_world("libvirt")


@pytest.fixture
def operator(here: Host) -> Operator:
    return Operator(here.world.root / here.name / "nova.conf")


# -- migrations --------------------------------------------------------------


def test_migrations_are_listed_newest_first(world: World, here: Host, operator: Operator) -> None:
    there = world.hosts[1]
    world.boot(here, GUEST)
    failed = world.migrate(GUEST, here, there, how="fail")
    completed = world.migrate(GUEST, here, there)
    rows = operator.rows("migration", "list")
    assert [(r["Migration"], r["Instance"], r["Role"], r["Peer"], r["Outcome"]) for r in rows] == [
        (completed.uuid, GUEST, "source", "node02", "completed"),
        (failed.uuid, GUEST, "source", "node02", "failed")]
    assert rows[0]["Why"] == "" and rows[1]["Why"]


def test_the_list_can_be_cut_to_open_ones_and_to_a_number(world: World, here: Host,
                                                          operator: Operator) -> None:
    there = world.hosts[1]
    world.boot(here, GUEST)
    world.migrate(GUEST, here, there, how="fail")
    here.ceph.extra[f"vms/{GUEST}_disk"] = frozenset({"10.0.0.1"})
    doubtful = world.migrate(GUEST, here, there)
    (row,) = operator.rows("migration", "list", "--open")
    assert (row["Migration"], row["Outcome"]) == (doubtful.uuid, "unresolved")
    assert "is watched from this host" in row["Why"]
    assert len(operator.rows("migration", "list", "--limit", "1")) == 1


def test_one_migration_is_shown_step_by_step(world: World, here: Host,
                                             operator: Operator) -> None:
    world.boot(here, GUEST)
    order = world.migrate(GUEST, here, world.hosts[1])
    rows = operator.rows("migration", "show", order.uuid)
    assert rows[0]["Step"] == "(opened)"
    assert (rows[-1]["Step"], rows[-1]["State"]) == ("(closed)", "completed")
    steps = [(r["Step"], r["State"]) for r in rows[1:-1]]
    assert steps == here.records(order.uuid)
    assert all(row["Role"] == "source" for row in rows)


def test_an_unresolved_migration_says_why(world: World, here: Host, operator: Operator) -> None:
    world.boot(here, GUEST)
    here.ceph.is_down = True
    order = world.migrate(GUEST, here, world.hosts[1])
    last = operator.rows("migration", "show", order.uuid)[-1]
    assert (last["Step"], last["State"]) == ("(open)", "unresolved")
    assert "Ceph cannot be asked" in last["Data"]


def test_an_unknown_migration_is_told_in_one_sentence(operator: Operator) -> None:
    sentence = operator.sentence("migration", "show", "m-unknown")
    assert "does not have it" in sentence and "--host" in sentence


def test_an_empty_journal_is_an_empty_list(operator: Operator) -> None:
    assert operator.rows("migration", "list") == []
    assert operator.rows("refusal", "list") == []
    assert operator.run("migration", "list").stdout == "no migration is recorded\n"
    assert operator.run("refusal", "list").stdout == "nothing was refused\n"
    assert operator.run("trash", "list").stdout.startswith("0 in the trash")


def test_no_journal_is_told_in_one_sentence(tmp_path: pathlib.Path) -> None:
    worlds.settings_of("node09", tmp_path / "node09", "nova")
    operator = Operator(tmp_path / "node09" / "nova.conf")
    sentence = operator.sentence("migration", "list")
    assert "never run" in sentence
    assert not (tmp_path / "node09" / "rbd-worker").exists(), "looking makes nothing"


# -- refusals ----------------------------------------------------------------


def test_refusals_are_listed_without_what_they_contained(here: Host,
                                                         operator: Operator) -> None:
    here.hear(b'{"oslo.version": "3.0", "oslo.message": "live_migration secret-in-body"}')
    (row,) = operator.rows("refusal", "list")
    assert row["Origin"] == "cast"
    assert "oslo.version is not 2.x" in row["Reason"]
    assert "secret-in-body" not in json.dumps(row)


# -- trash -------------------------------------------------------------------


def test_what_left_is_listed_and_comes_back(world: World, here: Host,
                                            operator: Operator) -> None:
    world.boot(here, GUEST)
    order = world.migrate(GUEST, here, world.hosts[1])
    (row,) = operator.rows("trash", "list")
    assert (row["Instance"], row["Migration"]) == (GUEST, order.uuid)
    assert "node02 says running" in row["Why"]
    done = operator.run("trash", "restore", row["Id"])
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"restored {here.directory(GUEST)}\n"
    assert set(here.files(GUEST)) == {"console.log", *worlds.FILES}
    assert operator.rows("trash", "list") == []


def test_a_restore_never_overwrites(world: World, here: Host, operator: Operator) -> None:
    there = world.hosts[1]
    world.boot(here, GUEST)
    world.migrate(GUEST, here, there)
    world.migrate(GUEST, there, here)
    before = here.files(GUEST)
    (row,) = operator.rows("trash", "list")
    assert "already exists" in operator.sentence("trash", "restore", row["Id"])
    assert here.files(GUEST) == before
    assert len(operator.rows("trash", "list")) == 1


def test_nothing_is_restored_that_a_revert_of_a_resize_would_delete(
        world: World, here: Host, operator: Operator) -> None:
    world.boot(here, GUEST)
    world.migrate(GUEST, here, world.hosts[1])
    (row,) = operator.rows("trash", "list")
    aside = pathlib.Path(f"{here.directory(GUEST)}_resize")
    aside.mkdir()
    told = operator.sentence("trash", "restore", row["Id"])
    assert "a revert of that resize would delete" in told
    assert not here.directory(GUEST).exists()
    aside.rmdir()
    assert operator.run("trash", "restore", row["Id"]).returncode == 0


@pytest.mark.parametrize("item", [
    "unknown", "../../etc", f"{GUEST}.20261124T101500.3fa2b1",
    f"{GUEST}.20261124T101500.3fa2b1/..", "", "."])
def test_an_item_that_is_not_there_cannot_be_restored(operator: Operator, item: str) -> None:
    assert "no item" in operator.sentence("trash", "restore", item)


def test_the_table_ends_with_what_the_trash_takes_and_may_take(
        world: World, here: Host, operator: Operator) -> None:
    world.boot(here, GUEST)
    world.migrate(GUEST, here, world.hosts[1])
    last = operator.run("trash", "list").stdout.splitlines()[-1]
    assert last.startswith("1 in the trash, 0.0 MiB of ")
    assert last.endswith("MiB ([rbd_worker] trash_max_percent = 10)")


def test_an_item_is_shown_with_its_facts_and_its_files(world: World, here: Host,
                                                       operator: Operator) -> None:
    world.boot(here, GUEST)
    order = world.migrate(GUEST, here, world.hosts[1])
    (row,) = operator.rows("trash", "list")
    shown = ty.cast(dict[str, ty.Any], operator.rows("trash", "show", row["Id"]))
    assert (shown["instance"], shown["migration"], shown["proven"]) == (GUEST, order.uuid, "yes")
    assert any(fact.startswith("holder: yes, node02 says running") for fact in shown["facts"])
    assert [line.split()[-1] for line in shown["files"]] == [
        "console.log", "disk.config", "disk.info", "keys", "keys/secret"]
    assert shown["files"][0].startswith("-rw")


def test_an_item_leaves_for_good_only_when_somebody_says_yes(
        world: World, here: Host, operator: Operator) -> None:
    world.timeline.set_clock(-3600)  # the command's own clock is not the world's
    world.boot(here, GUEST)
    world.migrate(GUEST, here, world.hosts[1])
    (row,) = operator.rows("trash", "list")
    for words in ([row["Id"]], ["--all"]):
        assert "give --yes" in operator.sentence("trash", "purge", *words)
    assert len(here.trashed()) == 1
    assert operator.run("trash", "purge", "--older-than", "1000w", "--yes").stdout == (
        "nothing to purge\n")
    done = operator.run("trash", "purge", row["Id"], "--yes")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "purged 1 of 1 item(s), 0.0 MiB\n"
    assert here.trashed() == []


def test_what_nobody_can_prove_is_purged_by_its_id_only(world: World, here: Host,
                                                        operator: Operator) -> None:
    world.boot(here, GUEST)
    world.migrate(GUEST, here, world.hosts[1])
    (row,) = operator.rows("trash", "list")
    record = here.path / ".rbd-worker/trash" / row["Id"] / "record.json"
    record.write_bytes(record.read_bytes()[:40])
    done = operator.run("trash", "purge", "--all", "--yes")
    assert done.stdout.startswith(f"kept {row['Id']}: its record cannot be read")
    (row,) = operator.rows("trash", "list")
    assert "nobody can tell why it left" in row["Why"]
    assert operator.run("trash", "purge", row["Id"], "--yes").returncode == 0
    assert here.trashed() == []


@pytest.mark.parametrize("words", [
    [], ["--all", "--older-than", "1d"], ["--older-than", "yesterday"], ["--older-than", "-1d"]])
def test_a_purge_that_is_not_clear_is_refused(operator: Operator, words: list[str]) -> None:
    assert operator.run("trash", "purge", *words).returncode == 2


# -- instances_path ----------------------------------------------------------


def test_a_path_that_is_away_is_no_empty_trash_and_can_be_accepted(
        here: Host, operator: Operator) -> None:
    assert "nothing to do" in operator.run("path", "accept").stdout
    here.alive.journal.keep_path_id("0123456789abcdef" * 2)
    for words in (["list"], ["show", "x"], ["restore", "x"], ["purge", "--all", "--yes"]):
        assert "looks not mounted" in operator.sentence("trash", *words)
    assert list(here.path.iterdir()) == [], "nothing is made in an empty mount point"
    done = operator.run("path", "accept")
    assert done.stdout == f"{here.path} is this host's from now on\n"
    assert operator.rows("trash", "list") == []


# -- the command itself ------------------------------------------------------


def test_help_names_every_command_and_has_examples(operator: Operator) -> None:
    done = operator.run("--help")
    assert done.returncode == 0
    for command in COMMANDS:
        assert command in done.stdout
    assert "examples:" in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(operator: Operator, command: str) -> None:
    done = operator.run(*command.split(), "--help")
    assert done.returncode == 0
    assert f"usage: rbd-workerctl {command}" in done.stdout
    assert len(done.stdout.splitlines()) > 4


def test_a_misspelt_command_is_told(operator: Operator) -> None:
    done = operator.run("trahs", "list")
    assert done.returncode != 0
    assert "trash list" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_a_wrong_configuration_is_told_as_at_the_workers_start(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "nova.conf"
    path.write_text("[rbd_worker]\nexcutor = nova\n")
    assert "Did you mean executor?" in Operator(path).sentence("migration", "list")


@pytest.mark.parametrize("program", ["rbd-workerctl", "rbd-worker"])
@pytest.mark.parametrize("kind", ["bytes", "directory"])
def test_what_is_no_file_of_text_is_named_in_one_sentence(tmp_path: pathlib.Path, program: str,
                                                          kind: str) -> None:
    path = tmp_path / "odd.conf"
    if kind == "bytes":
        path.write_bytes(b"[DEFAULT]\nhost = n\xf6de\n")
    else:
        path.mkdir()
    script = pathlib.Path(sys.executable).with_name(program)
    words = ["migration", "list"] if program == "rbd-workerctl" else []
    done = subprocess.run([script, "--config-file", str(path), *words], text=True,
                          capture_output=True, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{program}: ")
    assert str(path) in line


def test_a_url_of_another_kind_of_broker_is_told_as_at_the_workers_start(
        world: World, here: Host) -> None:
    config = world.root / here.name / "nova.conf"
    config.write_text(config.read_text().replace(
        "[DEFAULT]\n", "[DEFAULT]\ntransport_url = nonsense://guest:secret@127.0.0.1/\n"))
    sentence = Operator(config).sentence("audit")
    assert "transport_url" in sentence
    assert "secret" not in sentence


@pytest.mark.parametrize("number", ["0", "-1", "x"])
@pytest.mark.parametrize("command", ["migration list", "trash list"])
def test_a_limit_that_shows_nothing_is_a_wrong_command_line(operator: Operator, command: str,
                                                            number: str) -> None:
    done = operator.run(*command.split(), f"--limit={number}")
    assert (done.returncode, done.stdout) == (2, "")
    assert "is not a number from 1" in done.stderr


def test_an_unreachable_broker_does_not_hide_what_the_journal_says(
        world: World, here: Host) -> None:
    config = world.root / here.name / "nova.conf"
    config.write_text(config.read_text().replace(
        "[DEFAULT]\n", "[DEFAULT]\ntransport_url = rabbit://guest:secret@127.0.0.1:1/\n"))
    here.cast(conductor.live_migration(world.order(world.boot(here, GUEST), *world.hosts)))
    done = Operator(config).run("status", "-f", "json")
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert shown["host"] == "node01"
    assert shown["worker"].startswith("no answer")
    assert "RabbitMQ cannot be reached" in shown["worker"]
    assert shown["open migrations"] == 1
    assert "secret" not in done.stdout
    assert done.stderr == "", "it is told once"


def test_who_follows_a_migration_is_told_at_once_that_the_broker_is_away(
        world: World, here: Host) -> None:
    config = world.root / here.name / "nova.conf"
    config.write_text(config.read_text().replace(
        "[DEFAULT]\n", "[DEFAULT]\ntransport_url = rabbit://guest:secret@127.0.0.1:1/\n"))
    assert "RabbitMQ cannot be reached at rabbit://127.0.0.1:1/" in Operator(config).sentence(
        "migration", "watch", "0b6f4a8e-5c1c-4a2f-9a5f-3e1d7c2b9a10")


@pytest.mark.parametrize("url", ["rabbit://guest:secret@127.0.0.1:1/", "nonsense://a/"])
def test_a_worker_without_rbd_is_told_to_be_idle(tmp_path: pathlib.Path, url: str) -> None:
    path = tmp_path / "nova.conf"
    path.write_text(f"[DEFAULT]\nhost = node01\nstate_path = {tmp_path}\n"
                    f"transport_url = {url}\n[libvirt]\nimages_type = qcow2\n")
    done = Operator(path).run("status", "-f", "json")
    assert (done.returncode, done.stderr) == (0, "")
    worker = json.loads(done.stdout)["worker"]
    if url.startswith("rabbit"):
        assert "idle on node01" in worker and "images_type is not rbd" in worker
        assert "images_type is not rbd" in Operator(path).sentence("audit")
    else:
        assert "transport_url" in worker
