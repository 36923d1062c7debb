# SPDX-License-Identifier: Apache-2.0
"""What becomes of a guest that libvirt is about to take in, on a real disk and journal."""

import dataclasses
import os
import pathlib
import shutil
import stat
import time
import typing as ty
import uuid

import pytest

from devstack.lab import processes
from rbd_worker import conf, errors
from rbd_worker.host import instances, secrets, syscalls
from rbd_worker.migration import arrival
from rbd_worker.migration.task import Task
from rbd_worker.model import GuestState, Role
from tests import world as worlds
from tests.unit.conftest import MakeWorld
from tests.world import World

GUEST = "a05482ec-d71a-48c7-bf99-94d829b20aef"
SECRET = "457eb676-33da-42ec-9a8c-9293d545c337"
OTHER_SECRET = "11111111-2222-4333-8444-555555555555"
NOVA = ('<metadata><nova:instance xmlns:nova="http://openstack.org/xmlns/libvirt/nova/1.1">'
        "<nova:name>ü</nova:name></nova:instance></metadata>")


class Secrets:
    """libvirt's secrets of a host: UUID to what is wrong with it."""

    def __init__(self) -> None:
        self.missing_ones: dict[str, str] = {}
        self.is_silent = False

    def refresh(self) -> None:
        pass

    def missing(self, uuid: str) -> str:
        if self.is_silent:
            raise errors.HypervisorUnavailable(uri="qemu:///system", reason="no answer")
        return self.missing_ones.get(uuid, "")


class Place:
    """One host at which guests arrive."""

    def __init__(self, root: pathlib.Path) -> None:
        self.root = root
        self.ceph_conf = root / "ceph.conf"
        self.ceph_conf.write_text("[global]\nmon_host = 10.0.0.1, 10.0.0.2\n")
        base = worlds.settings_of("node02", root, "nova")
        self.settings = dataclasses.replace(base, ceph=conf.CephSettings(
            conf_path=str(self.ceph_conf), user="nova", secret_uuid=SECRET))
        self.path = pathlib.Path(self.settings.instances_path)
        self.path.mkdir()
        self.secrets = Secrets()
        self.tasks: list[Task] = []
        self.refusals: list[tuple[str, str]] = []

    def arrivals(self) -> arrival.Arrivals:
        return arrival.Arrivals(
            self.settings, instances.of(self.settings), ty.cast(secrets.Secrets, self.secrets),
            lambda instance: [t for t in self.tasks if t.migration.instance == instance],
            lambda origin, reason: self.refusals.append((origin, reason)))

    def answer(self, xml: str | bytes, is_awaited: bool = True) -> arrival.Answer:
        text = xml.encode() if isinstance(xml, str) else xml
        return self.arrivals().answer(text, lambda: is_awaited)

    def directory(self, instance: str = GUEST) -> pathlib.Path:
        return self.path / instance


@pytest.fixture
def place(tmp_path: pathlib.Path) -> Place:
    return Place(tmp_path)


def disk(*hosts: str, image: str = f"vms/{GUEST}_disk", secret: str = SECRET,
         more: str = "") -> str:
    auth = (f"<auth username='nova'><secret type='ceph' uuid='{secret}'/></auth>"
            if secret else "")
    listed = "".join(f"\n        {host}" for host in hosts)
    return (f"    <disk type='network' device='disk'>\n      {auth}\n"
            f"      <source protocol='rbd' name='{image}'>{listed}{more}\n      </source>\n"
            "      <target dev='vda' bus='virtio'/>\n    </disk>\n")


def mon(name: str, port: str = "6789") -> str:
    return f"<host name='{name}' port='{port}'/>"


def domain(*disks: str, guest: str = GUEST, metadata: str = NOVA, rest: str = "") -> str:
    return (f"<domain type='kvm' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>\n"
            f"  <name>instance-00000001</name>\n  <uuid>{guest}</uuid>\n  {metadata}\n"
            f"  <devices>\n{''.join(disks)}{rest}  </devices>\n"
            "  <qemu:commandline><qemu:arg value='-&lt;&apos;'/></qemu:commandline>\n</domain>\n")


# -- the directory -------------------------------------------------------------


def test_a_missing_directory_is_made_with_the_mode_that_nova_gives(place: Place) -> None:
    before = os.umask(0o077)
    try:
        answer = place.answer(domain())
    finally:
        os.umask(before)
    assert answer == arrival.Answer()
    assert stat.S_IMODE(place.directory().stat().st_mode) == 0o755
    assert list(place.directory().iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="gives directories to other users")
def test_it_belongs_to_whom_most_of_the_others_belong(place: Place) -> None:
    for owner in ((4242, 4343), (4242, 4343), (1, 1)):
        other = place.directory(str(uuid.uuid4()))
        other.mkdir()
        os.chown(other, *owner)
    (place.path / "_base").mkdir()
    place.answer(domain())
    status = place.directory().stat()
    assert (status.st_uid, status.st_gid) == (4242, 4343)


@pytest.mark.skipif(os.geteuid() != 0, reason="gives directories to other users")
def test_the_first_one_belongs_to_the_owner_of_instances_path(place: Place) -> None:
    os.chown(place.path, 4242, 4343)
    place.answer(domain())
    assert place.directory().stat().st_uid == 4242


def test_a_directory_that_stands_is_not_touched(place: Place) -> None:
    place.directory().mkdir(mode=0o700)
    (place.directory() / "console.log").write_text("old\n")
    before = place.directory().stat()
    place.answer(domain())
    after = place.directory().stat()
    assert (after.st_ino, after.st_mode, after.st_mtime_ns) == (
        before.st_ino, before.st_mode, before.st_mtime_ns)


def test_a_link_in_its_place_is_left_and_the_guest_comes_in(place: Place) -> None:
    elsewhere = place.root / "elsewhere"
    place.directory().symlink_to(elsewhere)
    assert place.answer(domain()) == arrival.Answer()
    assert place.directory().is_symlink() and not elsewhere.exists()


def test_a_guest_is_ours_by_the_paths_it_names(place: Place) -> None:
    log = f"<serial type='file'><source path='{place.directory()}/console.log'/></serial>\n"
    place.answer(domain(metadata="", rest=log))
    assert place.directory().is_dir()


@pytest.mark.parametrize("path", ["/var/lib/libvirt/images/x", "/{guest}/console.log",
                                  "{instances}/{guest}-other/x", "{instances}/{guest}"])
def test_a_guest_of_somebody_else_is_left_alone(place: Place, path: str) -> None:
    named = path.format(guest=GUEST, instances=place.path)
    outdated = disk(mon("10.9.9.9"), secret=OTHER_SECRET)
    place.secrets.missing_ones[OTHER_SECRET] = "is not defined"
    rest = f"<serial type='file'><source path='{named}'/></serial>\n"
    assert place.answer(domain(outdated, metadata="", rest=rest)) == arrival.Answer()
    assert list(place.path.iterdir()) == []


@pytest.mark.parametrize("guest", ["", "..", "../../etc", GUEST.upper(), f"{GUEST}/x",
                                   f"{GUEST}\n ", "{" + GUEST + "}", GUEST.replace("-", "")])
def test_only_a_canonical_uuid_becomes_a_directory(place: Place, guest: str) -> None:
    assert place.answer(domain(guest=guest)) == arrival.Answer()
    assert [p.name for p in place.path.iterdir()] == ([GUEST] if guest.strip() == GUEST else [])


def test_a_missing_instances_path_lets_the_guest_in(place: Place) -> None:
    place.path.rmdir()
    assert place.answer(domain()) == arrival.Answer()
    assert not place.path.exists()


def test_nothing_is_made_when_nobody_waits_any_more(place: Place) -> None:
    assert place.answer(domain(disk(mon("10.9.9.9"))), is_awaited=False) == arrival.Answer()
    assert not place.directory().exists()


@pytest.mark.parametrize("actions", [{"secret", "monitors"}, set()])
def test_what_is_switched_off_is_not_done(place: Place, actions: set[str]) -> None:
    place.settings = dataclasses.replace(place.settings, hook_actions=frozenset(actions))
    place.answer(domain())
    assert not place.directory().exists()


# -- the secret ----------------------------------------------------------------


@pytest.mark.parametrize("what", ["is not defined", "has no value"])
def test_a_guest_whose_secret_is_missing_is_refused_in_one_sentence(place: Place,
                                                                    what: str) -> None:
    place.secrets.missing_ones[OTHER_SECRET] = what
    answer = place.answer(domain(disk(mon("10.0.0.1")),
                                 disk(mon("10.0.0.1"), image="vol/v1", secret=OTHER_SECRET)))
    assert answer.refusal.startswith(
        f"the Ceph secret {OTHER_SECRET} of disk vol/v1 {what} in libvirt on node02: "
        f"this host's rbd_secret_uuid is {SECRET}")
    assert place.refusals == [(f"libvirt hook, instance {GUEST}", answer.refusal)]
    assert not place.directory().exists()


def test_the_remedy_for_the_hosts_own_secret_is_to_define_it(place: Place) -> None:
    place.secrets.missing_ones[SECRET] = "is not defined"
    assert "define it there" in place.answer(domain(disk())).refusal


def test_another_secret_than_the_hosts_own_is_fine_as_long_as_it_exists(place: Place) -> None:
    assert place.answer(domain(disk(secret=OTHER_SECRET))).refusal == ""


def test_a_silent_libvirt_is_no_reason_to_refuse(place: Place) -> None:
    place.secrets.is_silent = True
    assert place.answer(domain(disk())) == arrival.Answer()
    assert place.directory().is_dir()


def test_a_disk_without_a_secret_is_not_looked_at(place: Place) -> None:
    place.secrets.missing_ones[""] = "is not defined"
    assert place.answer(domain(disk(secret=""))).refusal == ""


# -- the monitors --------------------------------------------------------------


def test_outdated_monitors_are_replaced_and_every_other_byte_stays(place: Place) -> None:
    before = domain(disk(mon("10.9.9.9"), mon("10.9.9.8", "3300"), mon("10.9.9.7")),
                    disk(mon("10.9.9.9"), image="vms/second"))
    after = domain(disk(mon("10.0.0.1"), mon("10.0.0.2")),
                   disk(mon("10.0.0.1"), mon("10.0.0.2"), image="vms/second"))
    answer = place.answer(before)
    assert answer.xml is not None
    assert answer.xml.decode() == after


def test_one_outdated_monitor_among_good_ones_is_reason_enough(place: Place) -> None:
    answer = place.answer(domain(disk(mon("10.0.0.2"), mon("10.9.9.9"))))
    assert answer.xml == domain(disk(mon("10.0.0.1"), mon("10.0.0.2"))).encode()


@pytest.mark.parametrize("hosts", [
    [mon("10.0.0.1"), mon("10.0.0.2")], [mon("10.0.0.2")], [mon("10.0.0.1", "3300")], [],
    ["<host name='10.0.0.1'/>"]])
def test_monitors_that_are_all_known_stay_as_they_are(place: Place, hosts: list[str]) -> None:
    assert place.answer(domain(disk(*hosts))) == arrival.Answer()


@pytest.mark.parametrize("odd", [
    disk(mon("10.9.9.9"), image="volumes/v", secret=OTHER_SECRET),
    disk(mon("10.9.9.9"), image="volumes/v", secret=""),
    disk(mon("10.9.9.9"), more="<config file='/etc/ceph/other.conf'/>"),
    disk("<host transport='unix' socket='/run/x'/>"),
    disk(mon("10.9.9.9"), mon("10.9.9.8")).replace("\n        <host name='10.9.9.8'",
                                                   "<!-- x --><host name='10.9.9.8'"),
    "    <disk type='network'><source protocol='iscsi' name='iqn'>"
    "<host name='10.9.9.9'/></source></disk>\n",
    "    <disk type='file'><source file='/x'/><mirror><source protocol='rbd' name='vms/x'>"
    "<host name='10.9.9.9'/></source></mirror></disk>\n"])
def test_disks_of_other_clusters_and_odd_ones_stay_as_they_are(place: Place, odd: str) -> None:
    assert place.answer(domain(odd)).xml is None


def test_novas_own_disk_counts_without_cephx_too(place: Place) -> None:
    answer = place.answer(domain(disk(mon("10.9.9.9"), secret="")))
    assert answer.xml == domain(disk(mon("10.0.0.1"), mon("10.0.0.2"), secret="")).encode()


@pytest.mark.parametrize(("conf_text", "expected"), [
    ("[global]\nmon host = [v2:10.0.0.1:3300/0,v1:10.0.0.1:6789/0] [v2:10.0.0.2:3300,"
     "v1:10.0.0.2:6790]\n", [("10.0.0.1", "6789"), ("10.0.0.2", "6790")]),
    ("mon-host=10.0.0.1:6789;10.0.0.2\n", [("10.0.0.1", "6789")]),
    ("[global]\n  mon_host = [2001:DB8::1]:6789 [2001:db8::2] # two\n",
     [("2001:db8::1", "6789"), ("2001:db8::2", "6789")]),
    ("[global]\nmon_host = 10.0.0.1\n[client.nova]\nmon_host = 10.0.0.7:3300\n",
     [("10.0.0.7", "3300")]),
    ("[mon.a]\nmon addr = 10.0.0.1:6789\n[mon.b]\nmon addr = 10.0.0.2:6789\n",
     [("10.0.0.1", "6789"), ("10.0.0.2", "6789")]),
    ("[global]\nmon_host = 10.0.0.1, \\\n  10.0.0.2\n",
     [("10.0.0.1", "6789"), ("10.0.0.2", "6789")])])
def test_every_way_to_write_monitors_is_understood(
        place: Place, conf_text: str, expected: list[tuple[str, str]]) -> None:
    place.ceph_conf.write_text(conf_text)
    answer = place.answer(domain(disk(mon("10.9.9.9"))))
    assert answer.xml == domain(disk(*(mon(*one) for one in expected))).encode()


@pytest.mark.parametrize("conf_text", ["", "[global]\nfsid = 1\n", "mon_host = ${x}\n",
                                       "mon_host = 10.0.0.1 <x>\n", "mon_host = 2001:db8::1\n"])
def test_a_ceph_conf_that_does_not_tell_changes_nothing(place: Place, conf_text: str) -> None:
    place.ceph_conf.write_text(conf_text)
    assert place.answer(domain(disk(mon("10.9.9.9")))).xml is None


def test_a_missing_ceph_conf_changes_nothing(place: Place) -> None:
    place.ceph_conf.unlink()
    assert place.answer(domain(disk(mon("10.9.9.9")))) == arrival.Answer()
    assert place.directory().is_dir()


def test_names_count_once_they_are_resolved(place: Place) -> None:
    place.ceph_conf.write_text("mon_host = localhost\n")
    arrivals = place.arrivals()
    outdated, current = (domain(disk(mon(a))).encode() for a in ("10.9.9.9", "127.0.0.1"))
    assert arrivals.answer(outdated, lambda: True).xml is None  # nobody can tell yet
    arrivals.refresh()
    assert arrivals.answer(current, lambda: True).xml is None
    assert arrivals.answer(outdated, lambda: True).xml == domain(disk(mon("localhost"))).encode()


# -- hostile XML ---------------------------------------------------------------

BOMB = ('<!DOCTYPE b [<!ENTITY a "' + "x" * 1000 + '">'
        + "".join(f'<!ENTITY a{n} "{"&a;" * 10 if n == 0 else f"&a{n - 1};" * 10}">'
                  for n in range(10)) + "]>")


@pytest.mark.parametrize("xml", [
    b"", b"\x00\xff" * 1000, b"not xml", b"<domain>", b"<network/>", b"<domain/>",
    BOMB.encode() + domain().replace("instance-00000001", "&a9;").encode(),
    b'<!DOCTYPE d SYSTEM "file:///etc/passwd">' + domain().encode(),
    domain().encode("utf-16"),
    b"<?xml version='1.0' encoding='iso-8859-1'?>" + domain(metadata="").encode(),
    domain(rest="<a>" * 100 + "</a>" * 100).encode(),
    domain(rest="<a/>" * 60_000).encode(),
    domain().encode() + b" " * (4 << 20),
    domain(metadata=f"{NOVA}<uuid/>").replace("<name>", f"<uuid>{SECRET}</uuid><name>").encode(),
], ids=range(14))
def test_hostile_xml_is_let_in_untouched_and_quickly(place: Place, xml: bytes) -> None:
    began = time.monotonic()
    assert place.answer(xml) == arrival.Answer()
    assert time.monotonic() - began < processes.patience(1)
    assert list(place.path.iterdir()) == []


# -- with an open migration ------------------------------------------------------


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    return make_world("nova")


def expected_guest(world: World, place: Place) -> tuple[str, Task]:
    """A guest whose migration is open at its destination, which is ``place`` then."""
    here, there = world.hosts
    guest = world.boot(here)
    here.cast(worlds.conductor.live_migration(world.order(guest, here, there)))
    world.timeline.pass_time(0.01)
    place.settings, place.path = there.settings, there.path
    place.tasks = there.alive.coordinator.tasks_of(guest)
    (task,) = place.tasks
    assert task.migration.role is Role.DESTINATION
    return guest, task


def test_an_open_migration_makes_a_guest_ours(world: World, place: Place) -> None:
    guest, task = expected_guest(world, place)
    place.answer(domain(guest=guest, metadata=""))
    with task.ports.directories.pin(guest) as directory:
        identity = directory.lasting_identity
    steps = [r.step for r in task.ports.journal.records(task.migration)]
    assert steps.index(arrival.MAKING) < steps.index(arrival.MADE)
    assert task.notes[arrival.MADE] == {"identity": identity}


def test_what_was_made_for_a_guest_that_did_not_come_goes_by_proof(world: World,
                                                                   place: Place) -> None:
    guest, task = expected_guest(world, place)
    place.answer(domain(guest=guest, metadata=""))
    with pytest.raises(errors.NotProven):  # the source still works on it
        arrival.ensure_arrival_directory_trashed(task)
    order = world.order(guest, *world.hosts)
    world.hosts[1].cast(worlds.conductor.rollback_at_destination(order))
    world.timeline.pass_time(3600)
    arrival.ensure_arrival_directory_trashed(task)
    arrival.ensure_arrival_directory_trashed(task)
    assert not place.directory(guest).exists()
    assert [item.instance for item in world.hosts[1].trashed()] == [guest]


def test_what_a_cold_migration_of_a_guest_that_did_not_come_uses_again_stays(
        world: World, place: Place) -> None:
    """``mkdir -p`` takes the hook's directory as it is; the guest is shut off meanwhile."""
    guest, task = expected_guest(world, place)
    place.answer(domain(guest=guest, metadata=""))
    here, there = world.hosts
    here.libvirt.states[guest] = GuestState.SHUTOFF
    there.cast(worlds.conductor.rollback_at_destination(world.order(guest, here, there)))
    world.timeline.pass_time(3600)
    assert place.directory(guest).is_dir()
    with pytest.raises(errors.NotProven, match="only a guest that runs elsewhere"):
        arrival.ensure_arrival_directory_trashed(task)


def test_a_later_directory_with_the_same_inode_stays(
        world: World, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    guest, task = expected_guest(world, place)
    place.answer(domain(guest=guest, metadata=""))
    monkeypatch.setattr(syscalls, "generation", lambda fd: 4711)
    arrival.ensure_arrival_directory_trashed(task)
    assert place.directory(guest).is_dir()


def test_a_directory_that_somebody_else_made_since_stays(world: World, place: Place) -> None:
    guest, task = expected_guest(world, place)
    place.answer(domain(guest=guest, metadata=""))
    made = place.directory(guest)
    made.rename(made.with_name("kept"))  # its inode stays in use
    made.mkdir()
    arrival.ensure_arrival_directory_trashed(task)
    assert made.is_dir()
    shutil.rmtree(made)


def test_a_directory_that_was_there_before_stays(world: World, place: Place) -> None:
    guest, task = expected_guest(world, place)
    place.directory(guest).mkdir()
    place.answer(domain(guest=guest))
    arrival.ensure_arrival_directory_trashed(task)
    assert place.directory(guest).is_dir()
