# SPDX-License-Identifier: Apache-2.0
import contextlib
import os
import pathlib
import subprocess
import time

import msgspec
import pytest

from rbd_worker import errors
from rbd_worker.host import instances, probe
from rbd_worker.model import Verdict
from rpcapi.payloads import PathProbe
from tests.unit.host.trees import LIMITS, UUID, Host, needs_root, open_descriptors


@pytest.fixture
def here(tmp_path: pathlib.Path) -> Host:
    return Host(tmp_path / "here")


@pytest.fixture
def there(tmp_path: pathlib.Path) -> Host:
    return Host(tmp_path / "there")


def nonces(host: Host) -> list[str]:
    return [p.name for p in (host.path / ".rbd-worker" / "nonce").iterdir()]


def test_two_hosts_with_paths_of_their_own_are_told_apart(here: Host, there: Host) -> None:
    here.make()
    there.make()
    with probe.lay(there.directories, UUID) as laid:
        fact = probe.compare(here.directories, UUID, laid)
    assert (fact.witness, fact.verdict) == ("path", Verdict.YES)


def test_a_shared_instances_path_is_seen_by_its_nonce_before_any_directory_is_there(
        here: Host, tmp_path: pathlib.Path) -> None:
    (tmp_path / "mount").symlink_to(here.path)
    there = instances.Instances(str(tmp_path / "mount"), LIMITS)
    with probe.lay(there, UUID) as laid:
        assert probe.compare(here.directories, UUID, laid).verdict is Verdict.NO


@needs_root
def test_one_directory_that_is_mounted_at_two_paths_is_seen_by_its_identity(
        here: Host, there: Host) -> None:
    shared, mounted = here.make(), there.make()
    subprocess.run(["mount", "--bind", str(shared), str(mounted)], check=True)
    try:
        with probe.lay(there.directories, UUID) as laid:
            assert probe.compare(here.directories, UUID, laid).verdict is Verdict.NO
    finally:
        subprocess.run(["umount", str(mounted)], check=True)


def test_the_nonce_is_gone_afterwards_also_after_an_error(here: Host) -> None:
    with probe.lay(here.directories, UUID) as laid:
        assert nonces(here) == [laid.nonce]
    assert nonces(here) == []
    with pytest.raises(ZeroDivisionError), probe.lay(here.directories, UUID):
        raise ZeroDivisionError
    assert nonces(here) == []


def test_two_nonces_do_not_disturb_each_other(here: Host) -> None:
    with probe.lay(here.directories, UUID) as one:
        with probe.lay(here.directories, UUID) as other:
            assert set(nonces(here)) == {one.nonce, other.nonce}
        assert nonces(here) == [one.nonce]


def test_nonces_of_a_killed_worker_go_after_an_hour(here: Host) -> None:
    os.close(here.directories.area("nonce"))
    area = here.path / ".rbd-worker" / "nonce"
    for name, age in (("a" * 32, 3700), ("b" * 32, 3500), ("notes", 999_999)):
        (area / name).write_bytes(b"")
        os.utime(area / name, (time.time() - age, time.time() - age))
    with probe.lay(here.directories, UUID):
        pass
    assert sorted(nonces(here)) == ["b" * 32, "notes"]


def test_a_directory_on_one_host_only_is_not_shared(here: Host, there: Host) -> None:
    there.make()
    theirs = probe.identity(there.directories, UUID)
    assert theirs.inode == (there.path / UUID).stat().st_ino
    assert probe.compare(here.directories, UUID, theirs).verdict is Verdict.YES
    ours = probe.identity(here.directories, UUID)
    assert (ours.nonce, ours.inode, ours.changed_ns, ours.filesystem) == ("", 0, 0, 0)
    assert probe.compare(there.directories, UUID, ours).verdict is Verdict.YES


@pytest.mark.parametrize(("changes", "verdict"), [
    ({}, Verdict.NO),
    ({"filesystem": 1}, Verdict.UNKNOWN),               # numbers of NFS mounts may differ
    ({"changed_ns": 1}, Verdict.UNKNOWN),               # it may have changed in between
    ({"inode": 1}, Verdict.YES),
    ({"changed_ns": 1, "filesystem": 1}, Verdict.YES),  # the same inode by chance
])
def test_what_agrees_decides(here: Host, changes: dict[str, int], verdict: Verdict) -> None:
    here.make()
    theirs = msgspec.structs.replace(probe.identity(here.directories, UUID), **changes)
    assert probe.compare(here.directories, UUID, theirs).verdict is verdict


@pytest.mark.parametrize("nonce", ["", "0" * 32])
def test_a_path_that_cannot_be_looked_at_is_unknown(
        tmp_path: pathlib.Path, nonce: str) -> None:
    missing = instances.Instances(str(tmp_path / "not mounted"), LIMITS)
    fact = probe.compare(missing, UUID, PathProbe(nonce=nonce, inode=1))
    assert fact.verdict is Verdict.UNKNOWN
    assert "not mounted" in fact.sentence


def test_a_link_in_the_place_of_the_directory_is_unknown(here: Host, there: Host) -> None:
    there.make()
    (here.path / UUID).symlink_to(there.path / UUID)
    theirs = probe.identity(there.directories, UUID)
    assert probe.compare(here.directories, UUID, theirs).verdict is Verdict.UNKNOWN


def test_an_area_that_others_can_write_into_proves_nothing(here: Host) -> None:
    os.close(here.directories.area("nonce"))
    (here.path / ".rbd-worker" / "nonce").chmod(0o777)
    with pytest.raises(errors.UnsafeDirectory), probe.lay(here.directories, UUID):
        pass
    assert probe.compare(here.directories, UUID,
                         PathProbe(nonce="0" * 32)).verdict is Verdict.UNKNOWN


def test_no_descriptor_is_left_open(here: Host, there: Host) -> None:
    here.make()
    there.make()
    before = open_descriptors()
    with probe.lay(there.directories, UUID) as laid:
        probe.compare(here.directories, UUID, laid)
    assert open_descriptors() == before


def test_a_nonce_that_is_renewed_is_there_and_not_stale(here: Host) -> None:
    with contextlib.closing(probe.Nonce(here.directories, UUID)) as nonce:
        path = here.path / ".rbd-worker" / "nonce" / nonce.probe.nonce
        os.utime(path, (0, 0))
        nonce.renew()
        with probe.lay(here.directories, UUID):  # which removes what is stale
            assert path.exists()
        path.unlink()
        nonce.renew()
        assert path.exists()
    assert nonces(here) == []
