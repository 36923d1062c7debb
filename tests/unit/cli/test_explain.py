# SPDX-License-Identifier: Apache-2.0
"""``rbd-workerctl explain`` as an operator uses it: a process, and a journal where needed."""

import json
import pathlib
import subprocess
import sys
import typing as ty

import pytest

from devstack import conductor
from rbd_worker.catalogue import lookup
from tests.unit.conftest import MakeWorld
from tests.world import Host, World

SCRIPT = pathlib.Path(sys.executable).with_name("rbd-workerctl")
UNKNOWN = "0b6f4a8e-5c1c-4a2f-9a5f-3e1d7c2b9a10"


def run(*words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run([SCRIPT, *words], text=True, capture_output=True, timeout=60,
                          input=stdin)


def rows(*words: str, stdin: str = "") -> list[dict[str, ty.Any]]:
    done = run("explain", *words, "-f", "json", stdin=stdin)
    assert (done.returncode, done.stderr) == (0, "")
    return ty.cast(list[dict[str, ty.Any]], json.loads(done.stdout))


def test_a_message_is_explained_without_any_configuration() -> None:
    (row,) = rows("internal error: Cannot get interface MTU on 'qbr0b6f4a8e-5c': No such device")
    assert (row["Name"], row["From"]) == ("bridge-missing", "libvirt")
    assert row["Cause"] and row["Remedy"]


def test_words_need_no_quotes() -> None:
    assert [r["Name"] for r in rows("no", "secret", "with", "matching", "uuid")] == [
        "secret-missing"]


def test_a_log_is_read_from_standard_input() -> None:
    log = ("INFO nova.compute.manager [-] all is well\n"
           "ERROR The supplied disk path (/x) already exists, it is expected not to exist.\n"
           "ERROR Timed out during operation: cannot acquire state change lock\n")
    assert [r["Name"] for r in rows("-", stdin=log)] == [
        "destination-disk-exists", "state-change-lock"]


def test_without_a_text_the_whole_catalogue_is_listed() -> None:
    assert [r["Name"] for r in rows()] == [entry.name for entry in lookup.entries()]


def test_an_error_of_the_worker_is_explained_by_its_name() -> None:
    (row,) = rows("NoSpace")
    assert row["From"] == "rbd-worker" and "Free space" in row["Remedy"]


@pytest.mark.parametrize(("words", "stdin"), [
    (("nothing that anybody ever said",), ""), (("-",), ""), (("-",), "\n\x00\n"), (("((",), "")])
def test_what_is_not_known_is_told_in_one_sentence(words: tuple[str, ...], stdin: str) -> None:
    done = run("explain", *words, stdin=stdin)
    assert done.returncode == 3
    (line,) = done.stderr.splitlines()
    assert "nothing in the catalogue" in line and "/var/log/libvirt/qemu" in line


def test_bytes_that_are_no_text_are_told_as_unknown() -> None:
    done = subprocess.run([SCRIPT, "explain", "-"], input=b"\xff\xfe\n", capture_output=True,
                          timeout=60)
    assert done.returncode == 3 and b"Traceback" not in done.stderr


GUEST = "a05482ec-d71a-48c7-bf99-94d829b20aef"


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    return make_world("libvirt")


def of_migration(here: Host, uuid: str) -> subprocess.CompletedProcess[str]:
    return run("--config-file", str(here.world.root / here.name / "nova.conf"), "explain", uuid,
               "-f", "json")


def test_the_reason_of_a_migration_is_shown_and_explained(world: World, here: Host) -> None:
    world.boot(here, GUEST)
    here.ceph.is_down = True
    done = of_migration(here, world.migrate(GUEST, here, world.hosts[1]).uuid)
    assert done.returncode == 0
    assert "Ceph cannot be asked" in done.stderr
    (row,) = [r for r in json.loads(done.stdout) if r["Name"] == "CephUnavailable"]
    assert "keyring" in row["Remedy"]


def test_a_migration_that_went_well_says_so(world: World, here: Host) -> None:
    world.boot(here, GUEST)
    done = of_migration(here, world.migrate(GUEST, here, world.hosts[1]).uuid)
    assert (done.returncode, done.stderr) == (0, "")
    (row,) = json.loads(done.stdout)
    assert row["Name"] == "completed" and "nothing that went wrong" in row["Cause"]


def test_a_migration_that_goes_on_says_so(world: World, here: Host) -> None:
    order = world.order(world.boot(here, GUEST), *world.hosts)
    here.cast(conductor.live_migration(order))
    (row,) = json.loads(of_migration(here, order.uuid).stdout)
    assert row["Name"] == "open" and f"migration watch {order.uuid}" in row["Remedy"]


def test_a_migration_that_is_not_in_the_journal_is_told(world: World, here: Host) -> None:
    done = of_migration(here, UNKNOWN)
    assert done.returncode == 1
    assert f"migration {UNKNOWN}: the journal of {here.name} does not have it" in done.stderr
