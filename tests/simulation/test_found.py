# SPDX-License-Identifier: Apache-2.0
"""Stories that once broke a promise, found by the simulation and made small.

Each stays here as it was found, however seeds are turned into schedules later.
"""

import dataclasses
import errno
import pathlib

import pytest

from rbd_worker.migration.journal import StepState
from rbd_worker.model import Executor, Role
from tests.simulation import play
from tests.simulation.schedule import (
    Audit,
    CallMishap,
    CastMishap,
    ClockSetBack,
    Cloud,
    Disorder,
    Failing,
    Forgery,
    Happening,
    Kill,
    KillAfterRecord,
    Leftover,
    Move,
    Order,
    Outage,
    Schedule,
)

_NOVA = Cloud(Executor.NOVA, hosts=2, guests=1)
_LIBVIRT = Cloud(Executor.LIBVIRT, hosts=2, guests=1)
_LIBVIRT3 = Cloud(Executor.LIBVIRT, hosts=3, guests=1)

#: What was wrong: the seed (which decides about the order of turns), the cloud, what happens.
FOUND: dict[str, tuple[int, Cloud, tuple[Happening, ...]]] = {
    "a host without Ceph could not say where its guest is": (
        60, _NOVA, (Move(13.3, 0, 1, end="fail"), Outage(0, "ceph", 13.4, 20_000))),
    "a guest that died before its leaving was seen lost its files": (
        79, _NOVA, (Move(7.0, 0, 1, end="source dies"), Disorder())),
    "a destination waited for an undecided source without a word": (
        29, _NOVA, (Move(0.4, 0, 1, end="source dies"), Disorder(), KillAfterRecord(
            Executor.NOVA, Role.DESTINATION, "ensure_files_staged", StepState.DOING, 0.01))),
    "a nonce that could not be removed ended a step in an unforeseen way": (
        0, _NOVA, (Move(1, 0, 1), Failing(0, "file", 24, 1, errno.EIO))),
    "a clock set back by a day made the worker wait for a day": (
        1434, _NOVA, (Move(1.3, 0, 1, end="post error"), ClockSetBack(0, 5.1, 86400))),
    "a destination that could not stage refused the files for ever": (
        731, _NOVA, (Move(5.4, 0, 1), Move(14.1, 0, 1, pace=30),
                     Failing(0, "file", 65, 40, errno.EIO))),
    "files of a failed move were placed beside those of the next one": (
        2278, _NOVA, (Move(9.8, 0, 1, end="abort"), Move(11.1, 0, 1), Disorder())),
    "a path that could not be listed ended the janitor": (
        142, _LIBVIRT, (Audit(400, 1), Failing(1, "file", 7, 3, errno.EACCES))),
    "a guest that came back before its files were handed over lost them": (
        3618, _NOVA, (Move(9.0, 0, 1), Move(26.0, 0, 1, pace=0.01), KillAfterRecord(
            Executor.NOVA, Role.DESTINATION, "ensure_arrival_awaited", StepState.DOING, 90))),
    "files were placed into a directory that its guest was leaving": (
        21273, _NOVA, (Move(0.3, 0, 1), Move(6.8, 0, 1), CallMishap(11, "late"), KillAfterRecord(
            Executor.NOVA, Role.DESTINATION, "ensure_files_placed", StepState.DOING, 0.01))),
    "a clock set back made a move that never began be awaited for a day": (
        22081, _NOVA, (Move(19.3, 0, 1, pace=0.01, dead_after="mkdir"),
                       ClockSetBack(0, 21.3, 86400))),
    "an entry that could not be journaled was never looked at again": (
        3976, _LIBVIRT, (Move(1.7, 0, 1, end="fail"), Failing(1, "journal", 3, 3))),
    "an order that was refused while its worker died was forgotten": (
        0, _LIBVIRT3, (Move(16.5, 0, 1, end="fail"), Move(17.2, 0, 2), KillAfterRecord(
            Executor.LIBVIRT, Role.DESTINATION, "ensure_directory_made", StepState.DONE, 5.0),
            Kill(0, "write", 7, 90.0))),
    "a guest came although a late repetition had turned its destination back": (
        501768, dataclasses.replace(_LIBVIRT, guests=2, has_hook=True), (
            Move(0.7105546508809768, 0, 1, end="left alone", pace=0.01),
            Move(73.86777278319082, 0, 1, end="fail", dead_after="cast"),
            Move(14.994919840678492, 1, 1), Disorder(), Failing(0, "file", 655, 3, errno.EIO),
            KillAfterRecord(Executor.LIBVIRT, Role.SOURCE, "ensure_source_removed",
                            StepState.DONE, 90.0))),
    "an entry that an operator resolved let go of files that only it still held": (
        0, _NOVA, (Move(6.5, 0, 1, end="source dies"), Order(170, 0, 0, "resolve"))),
    "the last lines of a guest were not in the copies of files that only a worker held": (
        20476, dataclasses.replace(_NOVA, hosts=4, workers=1, limit=0), (
            Move(4.905120270472379, 0, 2, end="abort", pace=0.01),
            Move(8.97986337113673, 0, 3, end="left alone"), Disorder(), KillAfterRecord(
                Executor.NOVA, Role.DESTINATION, "ensure_arrival_awaited", StepState.UNDOING, 90),
            CastMishap(1, "lost"))),
    "files of a guest that arrives were staged, recorded as such, and not on the disk": (
        0, dataclasses.replace(_LIBVIRT, files=("disk.info", "keys/secret")), (
            Move(1, 0, 1), Kill(1, "written", 5, 90.0, is_power=True))),
    "a directory that the hook had made was acknowledged and not on the disk": (
        4, dataclasses.replace(_NOVA, has_hook=True, nova_makes_directory=False), (
            Move(1, 0, 1), Move(150, 0, 1), Move(300, 0, 1),
            Kill(1, "time", 307, 90.0, is_power=True))),
    "the trash itself was not on the disk when the first directory went there": (
        4, _NOVA, (Move(1, 0, 1), Leftover(1, 0), Kill(1, "time", 20, 90.0, is_power=True))),
    "files were placed into a directory that Nova removed with its guest, which had died": (
        105799, dataclasses.replace(_NOVA, workers=2), (
            Move(4.945218692451507, 0, 1), Move(11.22549289231938, 0, 1, end="source dies"),
            KillAfterRecord(Executor.NOVA, Role.DESTINATION, "ensure_files_staged",
                            StepState.DOING, 5.0))),
    "console logs that were joined came again with the next migration and stood twice": (
        32354, dataclasses.replace(_NOVA, history_files=1), (
            Move(11.71454738787948, 0, 1, pace=0.01),
            Move(112.0876153808184, 0, 1, end="fail", pace=0.01),
            Move(115.47067858356819, 0, 1, end="left alone"), Disorder(),
            CallMishap(11, "answer lost"))),
    "a failed move that the next one completed was taken for one that had carried all": (
        109883, dataclasses.replace(_NOVA, workers=2, files=("disk.info", "keys/secret")), (
            Move(1.2577756204736334, 0, 1), Move(4.740047515404752, 0, 1, end="fail", pace=0.01),
            Move(12.687413354007695, 0, 1, end="left open, runs there", pace=30),
            Failing(0, "journal", 9, 40))),
    "files that came late were not held by the next move, whose destination did not answer": (
        0, dataclasses.replace(_NOVA, files=("disk.info", "keys/secret")), (
            Move(1, 0, 1), CallMishap(6, "lost"), Move(9.3, 0, 1), CallMishap(9, "lost"))),
    "a forged hand-over before the source's own left the source unresolved": (
        0, _LIBVIRT, (Move(16.4, 0, 1), Forgery(18.7, 1, 0, "finish call"))),
}


@pytest.mark.parametrize("name", FOUND)
def test_what_was_found_once_does_not_come_back(root: pathlib.Path, name: str) -> None:
    seed, cloud, happenings = FOUND[name]
    played = Schedule(seed, cloud, happenings, tuple(range(len(happenings))))
    assert play.play(played, root).breaches == ()
