# SPDX-License-Identifier: Apache-2.0
"""The destination's steps, in the order of its plan.

The source's calls start them; what the source says is checked against this
host's libvirt, and whatever leaves this host goes by proof.
"""

import contextlib
import logging
import typing as ty

from rbd_worker import errors
from rbd_worker.host import console, instances, probe, staging
from rbd_worker.migration import outcome_steps, pins, proof, results
from rbd_worker.migration.task import Task
from rbd_worker.model import GuestState, Migration, Role, Verdict
from rpcapi import payloads

LOG = logging.getLogger(__name__)

#: Note of a migration whose staging area is not named for the instance alone.
_AREA = "staging_area"


def ensure_leftover_trashed(task: Task) -> results.Result:
    """No directory stands in the way; one that stood is in the trash, by proof."""
    migration, ports = task.migration, task.ports
    if task.prepare is None:
        return _without_prepare(task)
    if _is_shared(task, task.prepare.probe):
        return results.Done({"shared": True})
    directory = ports.directories.pin(migration.instance)
    if directory is None:
        return results.Done()
    with directory:
        try:
            item = proof.trash_when_proven(task, directory, holder=migration.source,
                                           asking_for=migration.key)
        except errors.NotProven as e:
            raise errors.LeftoverInTheWay(instance=migration.instance, host=migration.host,
                                          reason=e.data["reason"]) from e
    return results.Done({"trash": item})


def ensure_files_staged(task: Task) -> results.Result:
    """A copy of every file of the source is in staging, by digest."""
    request = task.prepare
    if request is None:
        return _without_prepare(task)
    if task.is_shared or _is_shared(task, request.probe):
        return results.Done({"shared": True, "staged": {}})
    area = _staging(task)
    staged = area.ensure(request.root, request.entries, _fetcher(task))
    if not task.is_nova:  # becomes the directory as it is; else each file is looked at again
        area.sync()
    return results.Done({"staged": staged, "identity": _identity(request.probe),
                         "bytes": sum(entry.data for entry in request.entries)})


def _without_prepare(task: Task) -> results.Result:
    """Nothing to do before the source asks, unless it already hands everything over."""
    if task.finish is not None:
        return results.Done({"staged": {}})
    return outcome_steps.whether_source_goes_on(task)


def ensure_staging_dropped(task: Task) -> None:
    """Nothing of this migration is left in staging.

    These were copies only where the source's directory is the one they were copied from.  It
    is not where the guest had moved and is back, with that host's worker away all the time:
    Nova removed the originals, and what nothing else holds is in the trash.
    """
    if _are_originals_gone(task):
        item = _saved(task, "copies of the guest's files, whose originals stand on "
                            f"{task.migration.source} no more")
        if item:
            LOG.warning("%s turns back although the source's directory is another one by now; "
                        "what was staged for it is in the trash as %s", task.migration, item)
    _staging(task).drop()


def _are_originals_gone(task: Task) -> bool:
    """Executor nova: whether the guest is at the source, in another directory than was copied.

    :raises errors.OutcomeUnknown: it cannot tell now.
    """
    copied = task.notes.get("ensure_files_staged", {}).get("identity")
    if not task.is_nova or task.is_shared or copied is None:
        return False
    migration = task.migration
    there = task.ports.peers.testify(migration.source, migration.instance, probe.identity(
        task.ports.directories, migration.instance))
    if there.state == "unknown":
        raise errors.OutcomeUnknown(instance=migration.instance,
                                    reason=f"{there.host} says unknown {there.reason}")
    if there.state == GuestState.ABSENT:
        return False  # it left with another order, whose plan has its files
    if any(e.listed for e in there.entries if (e.migration, e.role) == (
            migration.key, Role.SOURCE.value)):
        return False  # its worker has not been away since, and holds them itself
    return there.probe is None or _identity(there.probe) != copied


def _identity(theirs: payloads.PathProbe) -> list[int]:
    """Of a directory: its inode, whose number may be used again, and when it was changed."""
    return [theirs.inode, theirs.changed_ns]


def ensure_staging_saved(task: Task) -> None:
    """What is staged is in the trash: an operator's word is no proof that the source has it."""
    item = _saved(task, "copies of the guest's files that waited here for their migration, "
                        "which an operator resolved")
    _staging(task).drop()
    if item:
        LOG.warning("%s is resolved by an operator; what was staged for it is in the trash as "
                    "%s", task.migration, item)


def _saved(task: Task, why: str) -> str:
    """The id of the trash item with all that is staged; empty where nothing is."""
    files = _staging(task).pinned()
    if files is None:
        return ""
    with contextlib.closing(files):
        return task.ports.trash.save(files, task.migration.instance, why, task.migration.key).id


def ensure_directory_made(task: Task) -> results.Result:
    """The instance directory stands, complete, before QEMU starts (executor libvirt)."""
    if task.is_shared or task.finish is not None:
        return results.Done()
    device, inode = _staging(task).promote()
    return results.Done({"identity": [device, inode]})


def ensure_made_directory_trashed(task: Task) -> None:
    """What was made here is in the trash: by proof, whoever asked for the rollback."""
    migration = task.migration
    if task.is_shared:
        return
    directory = task.ports.directories.pin(migration.instance)
    if directory is None:
        return
    with directory:
        asking = task.undone_for or migration
        proof.trash_when_proven(task, directory, holder=asking.source, asking_for=asking.key)


def ensure_files_placed(task: Task) -> results.Result:
    """The directory has the source's files and its console history, durably."""
    ports, migration, settings = task.ports, task.migration, task.ports.settings
    request = task.finish
    if task.is_shared or (request is not None and _is_shared(task, request.probe)):
        return results.Done({"shared": True, "placed": {}, "own": []})
    if "files_placed" in task.notes:  # a kill came between the note and the step's record
        _staging(task).drop()
        note = task.notes["files_placed"]
        return results.Done({"placed": note["placed"], "own": note["own"]})
    if request is None and outcome_steps.source_has_it_open(task):
        # after a restart: what is staged is older than what the source still holds
        return results.Wait(settings.settle_interval, "the source hands its files over again")
    _check_guest_stays(task)
    area = _staging(task)
    with contextlib.ExitStack() as held:
        directory = ports.directories.pin(migration.instance)
        if directory is not None:
            held.enter_context(directory)
        if request is not None and request.entries:
            area.ensure(request.root, request.entries, _fetcher(task), standing=directory)
            area.keep_only({entry.path for entry in request.entries})
        area.sync()
        if directory is None:  # a guest without a directory: older Novas never made one
            directory = held.enter_context(_promoted(task, area))
        found = _placed(task, area, directory)
        pins.ensure_held_by_next(task, directory)
        if not directory.is_current():
            raise errors.DirectoryChanged(path=directory.label, reason="it was replaced meanwhile")
    ports.directories.sync()  # whoever made the directory may not have
    # noted before the staging area goes: without it nobody could tell that
    # joined console logs are there already
    task.note("files_placed", **found)
    area.drop()
    return results.Done({"placed": found["placed"], "own": found["own"]})


def _check_guest_stays(task: Task) -> None:
    """A later move carries what stood here as it began: what came now would be lost.

    :raises errors.OutcomeUnknown: the guest leaves, has left, or may be taken for one that has.
    :raises errors.ResizeWaits: Nova may yet put another directory in the place of this one.
    """
    migration = task.migration
    if task.is_nova and task.ports.directories.has_resize(migration.instance):
        raise errors.ResizeWaits(instance=migration.instance, host=migration.host)
    here = task.ports.hypervisor.state(migration.instance)
    if here in (GuestState.OUTGOING, GuestState.ABSENT):
        raise errors.OutcomeUnknown(
            instance=migration.instance,
            reason=f"{migration.host} says {here}; its files stay where they are until it is back")
    if outcome_steps.may_be_taken_as_moved(task, here):
        raise errors.OutcomeUnknown(
            instance=migration.instance,
            reason=f"{migration.host} says {here}, with a later migration open; its files stay "
                   "where they are until it is known to stay")


def _promoted(task: Task, area: staging.Staging) -> instances.PinnedDirectory:
    """A running guest without a directory has one now.

    :raises errors.OutcomeUnknown: it is shut off. nova-compute makes a directory with its next
        start, and has none where it deletes the guest, or is about to put it aside for a resize.
    """
    here = task.ports.hypervisor.state(task.migration.instance)
    if task.is_nova and not here.is_active:
        raise errors.OutcomeUnknown(
            instance=task.migration.instance,
            reason=f"{task.migration.host} says {here} and has no directory of it, as while it is "
                   "deleted; its files stay where they are until it is started")
    area.promote()
    directory = task.ports.directories.pin(task.migration.instance)
    if directory is None:
        raise errors.DirectoryChanged(path=task.migration.instance, reason="it vanished")
    return directory


def _placed(task: Task, area: staging.Staging, directory: instances.PinnedDirectory,
            ) -> dict[str, ty.Any]:
    """What became of each of the source's files: placed (by digest), or this host's own stands.

    With it which console logs were joined, for a later migration that brings them again.  The
    staged list stands in where the source could not tell its files again.
    """
    settings, request = task.ports.settings, task.finish
    entries = request.entries if request is not None else ()
    # with executor nova nothing of what stands there was made by this worker
    copied = {} if task.is_nova else task.notes.get("ensure_files_staged", {}).get("staged", {})
    found = area.place(directory, entries or area.entries(), known=copied)
    history = console.place_history(
        directory, area, keep=settings.console_history_files,
        max_bytes=settings.console_history_bytes, joined=_joined_before(task))
    return {"placed": found.placed | history.placed, "own": list(found.own),
            "joined": history.joined}


def _joined_before(task: Task) -> dict[str, list[str]]:
    """Console logs that other migrations of the guest joined here.

    A source that Nova gave up unheard still holds the files that the next migration takes
    along, and hands the same ones over.  Only what stands in the directory counts, by digest.
    """
    journal, migration = task.ports.journal, task.migration
    return {made: logs for entry in journal.entries_of(migration.instance)
            if entry.migration.role is Role.DESTINATION
            for record in journal.records(entry.migration) if record.step == "files_placed"
            for made, logs in record.data.get("joined", {}).items()}


def _is_shared(task: Task, theirs: payloads.PathProbe) -> bool:
    """Rule 3: compared at this moment; unsure is an error, not a no."""
    fact = probe.compare(task.ports.directories, task.migration.instance, theirs)
    if fact.verdict is Verdict.UNKNOWN:
        raise errors.PathNotCompared(instance=task.migration.instance, reason=fact.sentence)
    return fact.verdict is Verdict.NO


def note_of_area(migration: Migration) -> dict[str, dict[str, ty.Any]]:
    """What is journaled with a migration that begins while another one's files are staged here."""
    return {_AREA: {"name": f"{migration.instance}.{migration.key}"}}


def _staging(task: Task) -> staging.Staging:
    return staging.Staging(task.ports.directories, task.migration.instance,
                           task.notes.get(_AREA, {}).get("name", ""))


def _fetcher(task: Task) -> staging.Fetch:
    def fetch(entry: payloads.FileEntry, offset: int) -> payloads.Chunk:
        return task.ports.peers.read_chunk(task.migration.source, payloads.ChunkRequest(
            migration=task.migration.key, instance=task.migration.instance,
            path=entry.path, offset=offset))
    return fetch
