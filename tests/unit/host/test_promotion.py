# SPDX-License-Identifier: Apache-2.0
import os
import pathlib
import threading
import time

import pytest

from rbd_worker import errors
from rbd_worker.host import staging, walk
from tests.unit.host.entries import ROOT, entry_of, moved, staged
from tests.unit.host.trees import (
    UUID,
    Host,
    never,
)


def test_console_logs_are_held_back(
        source: Host, destination: Host, area: staging.Staging) -> None:
    source.make(console_log=b"new", console_log_0=b"old", disk_info=b"{}")
    moved(source, area)
    assert [p.name for p in (destination.path / UUID).iterdir()] == ["disk.info"]
    assert {p.name for p in (staged(destination) / "console").iterdir()} == {
        "console.log", "console.log.0"}


def test_promoting_never_replaces_a_directory(
        source: Host, destination: Host, area: staging.Staging) -> None:
    source.make(disk_info=b"{}")
    destination.make()  # empty, and all the same not ours
    with pytest.raises(errors.DirectoryExists):
        moved(source, area)
    assert list((destination.path / UUID).iterdir()) == []


def test_promoting_never_replaces_a_link_or_a_file(
        source: Host, destination: Host, area: staging.Staging) -> None:
    source.make(disk_info=b"{}")
    (destination.path / UUID).symlink_to("/nowhere")
    with pytest.raises(errors.DirectoryExists):
        moved(source, area)
    assert os.readlink(destination.path / UUID) == "/nowhere"


def test_a_repeated_promotion_knows_what_it_made(
        source: Host, destination: Host, area: staging.Staging) -> None:
    source.make(disk_info=b"{}")
    moved(source, area)
    status = (destination.path / UUID).stat()
    again = staging.Staging(destination.directories, UUID)  # as after a restart
    assert again.promote() == (status.st_dev, status.st_ino)
    os.rename(destination.path / UUID, destination.path / "aside")
    destination.make()
    with pytest.raises(errors.DirectoryExists):
        again.promote()


def test_a_source_without_a_directory_gives_an_empty_one(
        destination: Host, area: staging.Staging) -> None:
    area.ensure(walk.EMPTY_ROOT, (), never)
    area.promote()
    assert oct((destination.path / UUID).stat().st_mode) == "0o40755"
    assert time.time() - (destination.path / UUID).stat().st_mtime < 60


def test_only_one_of_several_promotions_at_once_wins(tmp_path: pathlib.Path) -> None:
    host = Host(tmp_path / "instances")
    area = staging.Staging(host.directories, UUID)
    area.ensure(ROOT, (entry_of("disk.info", b"{}"),), never)
    made: list[bool] = []

    def nova_makes_one() -> None:
        try:
            (host.path / UUID).mkdir()
            made.append(True)
        except FileExistsError:
            made.append(False)

    rival = threading.Thread(target=nova_makes_one)
    rival.start()
    try:
        area.promote()
        is_ours = True
    except errors.DirectoryExists:
        is_ours = False
    rival.join()
    assert is_ours is not made[0]
    assert ((host.path / UUID / "disk.info").exists()) is is_ours


