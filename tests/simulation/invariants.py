# SPDX-License-Identifier: Apache-2.0
"""What must hold once everything has come to rest.  Each breach names its invariant.

``removal``: no directory of a running or defined guest was ever removed (seen
at each rename, by :class:`World`).  ``bytes``: no byte of an instance
directory was lost.  ``directory``: one directory a guest, unless the reason is
told.  ``explained``: every open entry has a sentence.  ``guest``: the guest was
never touched beyond the moves that were ordered.  ``rest``: nothing waits for
ever, and no error was unforeseen.  ``secret``: nothing on a disk has a
token.  ``message``: no order that came to a worker's queue is forgotten.
``carried``: where nothing but forged messages disturbs a move, the guest has its
whole console history with it, and no entry stays open.
"""

import os
import typing as ty

from devstack import conductor
from rbd_worker.migration.journal import Entry
from rbd_worker.model import Executor, GuestState, Outcome, Phase, Role
from tests.simulation import schedule
from tests.simulation.hosts import Host
from tests.simulation.world import Breach, World

#: So many threads for plans that none waits for one.
_MANY = 16
#: Tasks of a worker that never end.
DAEMONS = frozenset({"tap", "audit", "janitor"})


def is_quiet(world: World) -> bool:
    """Nothing planned is left and nobody works on anything."""
    if world.plans_left or world.bus.under_way or world.migrating:
        return False
    return all(host.worker is not None and not host.unheard and not host.worker.coordinator.tasks()
               and all(t.is_over for t in host.libvirt.transfers) for host in world.hosts)


def has_strays(world: World) -> bool:
    """A directory stands beside the one of its guest."""
    return not world.cloud.is_shared and any(
        sum(os.path.exists(host.directory(guest)) for host in world.hosts) > 1
        for guest in world.guests)


def breaches(world: World, hanging: ty.Iterable[str]) -> ty.Iterator[Breach]:
    """All that is broken at rest."""
    for name in hanging:
        yield Breach("rest", f"{name} waits for ever")
    for host in world.hosts:
        if host.worker is None:
            yield Breach("rest", f"the worker of {host.name} does not start")
            return
    opened = {host.name: open_entries(host) for host in world.hosts}
    unresolved = {entry.migration.instance for each in opened.values() for entry in each}
    yield from _guests(world)
    yield from _entries(world, opened)
    yield from _directories(world, unresolved)
    disk = _read(world)
    yield from _bytes(world, disk, unresolved)
    yield from _secrets(disk)
    yield from _messages(world)
    yield from _carried(world, opened, disk)


def _guests(world: World) -> ty.Iterator[Breach]:
    doomed = world.dead | {world.guests[d.guest] for d in world.schedule.of(schedule.GuestDies)}
    doomed |= {world.guests[m.guest] for m in world.schedule.of(schedule.Move)
               if m.end == "source dies" or m.end in schedule.LEFT_OPEN}
    for guest in world.guests:
        states = [h.libvirt.states[guest] for h in world.hosts if guest in h.libvirt.states
                  and (h.name, guest) not in world.definitions]
        if states != [GuestState.RUNNING] and guest not in doomed:
            yield Breach("guest", f"{guest[:4]} does not simply run on one host: {states}")
        orders = [what for h in world.hosts for what, whose in h.libvirt.orders if whose == guest]
        if world.cloud.executor is Executor.NOVA and orders:
            yield Breach("guest", f"a worker ordered {orders} although Nova moves {guest[:4]}")
        if set(orders) - {"move"} and not world.aborts[guest]:
            yield Breach("guest", f"nobody asked for this: {orders}")
        moved = sum(t.has_moved for h in world.hosts for t in h.libvirt.transfers
                    if t.instance == guest)
        if moved > world.moves[guest]:
            yield Breach("guest", f"{guest[:4]} moved {moved} times for "
                                  f"{world.moves[guest]} orders")


def _entries(world: World, opened: dict[str, list[Entry]]) -> ty.Iterator[Breach]:
    for host in world.hosts:
        for entry in opened[host.name]:
            of = f"{entry.migration.instance[:4]} on {host.name} in {entry.phase}"
            if not entry.reason:
                yield Breach("explained", f"the entry of {of} is open without a sentence")
            elif _is_left_open(host, entry) and "a stopped copy" not in entry.reason:
                yield Breach("explained", f"nobody is told of the stopped copy of {of}: "
                                          f"{entry.reason}")
            elif _should_be_over(world, entry, opened):
                yield Breach("rest", f"all is well again, but {of} stays open: {entry.reason}")


def _is_left_open(host: Host, entry: Entry) -> bool:
    """libvirt keeps a copy of the guest here that it neither sends nor runs."""
    guest = entry.migration.instance
    return (entry.migration.role is Role.SOURCE and entry.phase is Phase.LIVE
            and host.libvirt.states.get(guest) is GuestState.OUTGOING
            and not host.libvirt.running_transfers(guest))


def _directories(world: World, unresolved: set[str]) -> ty.Iterator[Breach]:
    if world.cloud.is_shared:
        return
    for guest in world.guests:
        holder = _runs_on(world, guest)
        if holder is None or guest in unresolved:
            continue
        if any(guest == whose for _, whose in world.definitions):
            continue  # two hosts have the guest: that is for an operator, and kept meanwhile
        standing = [h.name for h in world.hosts if os.path.exists(h.directory(guest))]
        if standing != [holder.name]:
            yield Breach("directory", f"{guest[:4]} runs on {holder.name}, directories stand on "
                                      f"{standing or 'no host'}")
        for host in world.hosts:
            staging = f"{host.path}/.rbd-worker/staging/{guest}"
            if os.path.exists(staging):
                yield Breach("directory", f"{host.name} still has staged files of {guest[:4]}: "
                                          f"{sorted(os.listdir(staging))}")


def _bytes(world: World, disk: dict[str, bytes], unresolved: set[str]) -> ty.Iterator[Breach]:
    kept = _all_text(world, disk)
    for guest, marker in (*world.contents, *world.lines):
        if marker not in kept and marker not in world.lost and not _gives_way(world, marker):
            yield Breach("bytes", f"lost of {guest[:4]}: {marker}")
    for guest in world.guests:
        holder = _runs_on(world, guest)
        if holder is None or guest in unresolved or world.cloud.is_shared:
            continue
        texts = _texts_of(holder.directory(guest), disk)
        logs = "".join(text for name, text in texts.items() if name.startswith("console.log"))
        for instance, marker in world.lines:
            if instance == guest and logs.count(marker) > 1:
                yield Breach("bytes", f"twice in the console of {guest[:4]}: {marker}")
        if guest in world.resolved:
            continue  # what was on its way stays where it was
        if world.cloud.executor is Executor.LIBVIRT or _was_carried_each_time(world, guest):
            yield from _missing_files(world, guest, holder, texts)


def _carried(world: World, opened: dict[str, list[Entry]],
             disk: dict[str, bytes]) -> ty.Iterator[Breach]:
    """What forgers say keeps no real move from being brought to its end."""
    if not _only_forgers_disturb(world):
        return
    moves = world.schedule.of(schedule.Move)
    for number, guest in enumerate(world.guests):
        mine = [move for move in moves if move.guest == number]
        holder = _runs_on(world, guest)
        if len(mine) != 1 or holder is None:
            continue
        if mine[0].end != "succeed" or mine[0].dead_after or mine[0].pace < 1:
            continue
        logs = "".join(text for name, text in _texts_of(holder.directory(guest), disk).items()
                       if name.startswith("console.log"))
        for instance, marker in world.lines:
            if instance == guest and marker not in logs:
                yield Breach("carried", f"the console of {guest[:4]} on {holder.name} lacks: "
                                        f"{marker}")
        for entry in (e for each in opened.values() for e in each):
            if entry.migration.instance == guest:
                yield Breach("carried", f"{entry.migration.key} of {guest[:4]} stays open: "
                                        f"{entry.reason}")


def _only_forgers_disturb(world: World) -> bool:
    cloud = world.cloud
    return (cloud.executor is Executor.NOVA and cloud.nova_makes_directory
            and not cloud.is_shared and cloud.workers >= _MANY and cloud.history_files > 1
            and all(isinstance(each, (schedule.Move, schedule.Forgery, schedule.Audit))
                    for each in world.schedule.happenings))


def _gives_way(world: World, marker: str) -> bool:
    """Nova made no directory and looked for none, so that a leftover became the guest's.

    Its files are the destination's own then, which a worker never replaces.
    """
    return not world.cloud.nova_makes_directory and marker.startswith("<disk.info") and bool(
        world.schedule.of(schedule.Leftover))


def _was_carried_each_time(world: World, guest: str) -> bool:
    """Executor nova: for each move the source's worker closed its entry as completed.

    An entry of a move that failed unheard may be completed as well: by the next move, which
    takes the same files to the same host.  It does not stand for another one.

    Not so where a directory of a host's own stood: its files are not replaced.  Nor where a
    worker with one or two threads came to it when Nova had removed the directory.
    """
    moved = {t.key for h in world.hosts for t in h.libvirt.transfers
             if t.instance == guest and t.has_moved}
    completed = {e.migration.key for h in world.hosts if h.worker is not None
                 for e in h.worker.journal.newest_entries()
                 if e.outcome is Outcome.COMPLETED and e.migration.role is Role.SOURCE
                 and not (world.cloud.workers < _MANY and _had_no_files(h, e))}
    has_leftover = any(world.guests[each.guest] == guest
                       for each in world.schedule.of(schedule.Leftover))
    return moved <= completed and not has_leftover and not world.lost


def _had_no_files(host: Host, entry: Entry) -> bool:
    return host.worker is not None and any(
        record.step == "ensure_files_pinned" and record.data.get("files") == 0
        for record in host.worker.journal.records(entry.migration))


def _missing_files(world: World, guest: str, holder: Host,
                   texts: dict[str, str]) -> ty.Iterator[Breach]:
    home = world.hosts[schedule.home(world.guests.index(guest), world.cloud)]
    for name in world.cloud.files:
        if texts.get(name) != f"<{name} of {guest} on {home.name}>":
            yield Breach("bytes", f"{name} of {guest[:4]} is not as it was on "
                                  f"{holder.name}: {texts.get(name)}")


def _secrets(disk: dict[str, bytes]) -> ty.Iterator[Breach]:
    """No message's body is kept anywhere: they carry the user's token."""
    token = conductor.SECRET_TOKEN.encode()
    for path, content in disk.items():
        if token in content:
            yield Breach("secret", f"{path} has the user's token")


def _read(world: World) -> dict[str, bytes]:
    """Every file of every host, journals too."""
    return dict(_files(str(world.root))) | {
        f"the journal of {host.name}": host.database.content() for host in world.hosts}


def _files(directory: str) -> ty.Iterator[tuple[str, bytes]]:
    with os.scandir(directory) as listing:
        for entry in listing:
            if entry.is_dir(follow_symlinks=False):
                yield from _files(entry.path)
            elif not entry.name.endswith("-shm"):  # an index of the journal's log
                yield entry.path, _content(entry.path)


def _content(path: str) -> bytes:
    """With half of the system calls of ``open``: there are some fifty files in each schedule."""
    fd = os.open(path, os.O_RDONLY)
    try:
        return os.read(fd, os.fstat(fd).st_size)
    finally:
        os.close(fd)


def _should_be_over(world: World, entry: Entry, opened: dict[str, list[Entry]]) -> bool:
    """The guest runs, and no later migration has moved it on or back.

    A worker that was away meanwhile cannot hand over to a host that has the
    guest no more; that such an entry is explained is all that is asked.
    """
    guest, key = entry.migration.instance, entry.migration.key
    older = (e for each in opened.values() for e in each
             if e.migration.instance == guest and e.migration.key != key)
    return (_runs_on(world, guest) is not None and guest not in world.resolved
            and world.newest_order.get(guest) == key
            and not any(older))


def _messages(world: World) -> ty.Iterator[Breach]:
    """Each order that came to a worker's queue is in its journal: as an entry or as refused."""
    for host in world.hosts:
        if host.worker is None:
            continue
        journal = host.worker.journal
        for key in host.ordered:
            if journal.entry(key, Role.SOURCE) is None and not any(
                    key in refusal.reason for refusal in journal.refusals()):
                yield Breach("message", f"{host.name} has forgotten {key}")


def open_entries(host: Host) -> list[Entry]:
    return [] if host.worker is None else host.worker.journal.open_entries()


def _runs_on(world: World, guest: str) -> Host | None:
    holder = world.holder(guest)
    if holder is None or holder.libvirt.states[guest] is not GuestState.RUNNING:
        return None
    return holder


def _all_text(world: World, disk: dict[str, bytes]) -> str:
    """Of every file in instance directories and the trash, and of what workers hold open."""
    parts = [content.decode(errors="replace") for path, content in disk.items()
             if "/instances/" in path and "/.rbd-worker/staging/" not in path]
    for host in world.hosts:
        for task in host.worker.coordinator.tasks() if host.worker is not None else ():
            parts += _held(task.files)
    return "".join(parts)


def _held(files: ty.Any) -> ty.Iterator[str]:
    for pinned in () if files is None else files._pinned.values():
        if pinned.found.fd >= 0:
            yield os.pread(pinned.found.fd, 1 << 20, 0).decode(errors="replace")


def _texts_of(directory: str, disk: dict[str, bytes]) -> dict[str, str]:
    """The files below a directory by their paths in it."""
    return {path.removeprefix(f"{directory}/"): content.decode(errors="replace")
            for path, content in disk.items() if path.startswith(f"{directory}/")}
