# SPDX-License-Identifier: Apache-2.0
"""What is decided when libvirt is about to take a guest in.

The libvirt hook asks, and libvirt and the guest wait for the answer.  The
guest gets its directory if Nova made none, the monitors of this host's
ceph.conf if its XML names others (LP 1741364, 1761361), and a clear no where
its Ceph secret does not exist here: QEMU could not start then, and would say
so in other words.  Whatever is not certain, or takes too long, lets the guest
in as it is.

libvirt holds the lock of the arriving domain meanwhile, so nothing here asks
it about any guest.
"""

import dataclasses
import logging
import re
import typing as ty

from rbd_worker import conf, errors, request_context
from rbd_worker.host import arriving_xml, ceph_conf, instances, new_directory, secrets
from rbd_worker.host.arriving_xml import ArrivingGuest, RbdDisk
from rbd_worker.migration import proof, results
from rbd_worker.migration.task import Task
from rbd_worker.model import GuestState, Role

LOG = logging.getLogger(__name__)

T = ty.TypeVar("T")

#: ``isdigit`` would take digits that ``int`` does not, and thousands of them.
_PORT = re.compile(r"[0-9]{1,5}")

#: Notes of the open entry.  The first is written before the directory is made, so
#: that after a kill in between its maker is known.
MAKING, MADE = "directory_is_made_at_arrival", "directory_made_at_arrival"


@dataclasses.dataclass(frozen=True)
class Answer:
    """The guest may come in as it is (neither is set), with another XML, or not at all."""

    xml: bytes | None = None
    refusal: str = ""


class Arrivals:
    """Thread-safe.

    :param tasks_of: an instance's open tasks.
    :param refuse: keeps a refusal for the operator: where it came from, and why.
    """

    def __init__(self, settings: conf.Settings, directories: instances.Instances,
                 known_secrets: secrets.Secrets, tasks_of: ty.Callable[[str], list[Task]],
                 refuse: ty.Callable[[str, str], None]) -> None:
        self._settings = settings
        self._directories = directories
        self._secrets = known_secrets
        self._tasks_of = tasks_of
        self._refuse = refuse
        self._names: dict[str, frozenset[str]] = {}

    def refresh(self) -> None:
        """Learn beforehand what an arriving guest would have to wait for; may take its time."""
        actions, ceph = self._settings.hook_actions, self._settings.ceph
        for action, learn in (("secret", self._secrets.refresh),
                              ("monitors", self._resolve)):
            try:
                if action in actions:
                    learn()
            except errors.Error as e:
                LOG.debug("for arriving guests of client.%s: %s", ceph.user, e.sentence)

    def answer(self, xml: bytes, is_awaited: ty.Callable[[], bool]) -> Answer:
        """Decide about one arriving guest.

        :param xml: of a domain, from another host.
        :param is_awaited: whether the hook still waits.  Once it does not, the guest
            has come in or has failed, and a directory made now would only be in
            the way of its next attempt (``DestinationDiskExists``).
        """
        try:
            guest = arriving_xml.read(xml)
        except errors.BadInput as e:
            LOG.warning("an arriving guest is let in without a look: %s", e)
            return Answer()
        task = self._task_of(guest.uuid)
        with request_context.of(task.migration.request_id if task else ""):
            return self._about(guest, xml, task, is_awaited)

    # -- inside ----------------------------------------------------------------

    def _about(self, guest: ArrivingGuest, xml: bytes, task: Task | None,
               is_awaited: ty.Callable[[], bool]) -> Answer:
        if task is None and not self._is_ours(guest):
            LOG.info("[instance: %s] arrives and is not Nova's: it is let in as it is", guest.uuid)
            return Answer()
        refusal = self._tried("secret", guest, lambda: self._missing_secret(guest)) or ""
        if refusal:
            self._keep_refusal(guest, task, refusal)
            return Answer(refusal=refusal)
        if not is_awaited():
            LOG.warning("[instance: %s] arrives before this worker could answer", guest.uuid)
            return Answer()
        self._tried("directory", guest, lambda: self._ensure_directory(guest, task))
        changed = self._tried("monitors", guest, lambda: self._with_monitors(guest, xml))
        LOG.info("[instance: %s] arrives%s", guest.uuid,
                 " and gets the monitors of this host's ceph.conf" if changed else "")
        return Answer(xml=changed)

    def _tried(self, action: str, guest: ArrivingGuest, do: ty.Callable[[], T]) -> T | None:
        """One action; where it cannot be done, the guest comes in without it."""
        if action not in self._settings.hook_actions:
            return None
        try:
            return do()
        except errors.Error as e:
            LOG.warning("[instance: %s] arrives; %s: %s", guest.uuid, action, e.sentence)
            return None

    def _task_of(self, instance: str) -> Task | None:
        arriving = [t for t in self._tasks_of(instance)
                    if t.migration.role is Role.DESTINATION and not t.is_closed]
        return max(arriving, key=lambda t: t.opened, default=None)

    def _is_ours(self, guest: ArrivingGuest) -> bool:
        own = f"{self._settings.instances_path.rstrip('/')}/{guest.uuid}/"
        return guest.is_novas or any(path.startswith(own) for path in guest.paths)

    def _ensure_directory(self, guest: ArrivingGuest, task: Task | None) -> None:
        directory = self._directories.pin(guest.uuid)
        if directory is not None:
            directory.close()
            return
        if task is not None:
            task.note(MAKING)
        made = new_directory.ensure(self._directories, guest.uuid)
        if made is None:
            return
        LOG.info("[instance: %s] its directory was missing and is made", guest.uuid)
        if task is not None:
            task.note(MADE, identity=made)

    def _missing_secret(self, guest: ArrivingGuest) -> str:
        """Why QEMU cannot reach one of the guest's disks from here; empty unless that is certain.

        A secret with another UUID than rbd_secret_uuid is fine as long as it exists:
        volumes may have their own.
        """
        own, host = self._settings.ceph.secret_uuid.lower(), self._settings.host
        for disk in guest.disks:
            reason = self._secrets.missing(disk.secret) if disk.secret else ""
            if reason:
                remedy = (f"this host's rbd_secret_uuid is {own}, and the UUID has to be the "
                          "same on all hosts" if own and own != disk.secret else
                          "define it there and set its value as on the other hosts")
                return (f"the Ceph secret {disk.secret} of disk {disk.image[:128]} {reason} in "
                        f"libvirt on {host}: {remedy}")
        return ""

    def _keep_refusal(self, guest: ArrivingGuest, task: Task | None, refusal: str) -> None:
        LOG.warning("[instance: %s] is refused: %s", guest.uuid, refusal)
        try:
            self._refuse(f"libvirt hook, instance {guest.uuid}", refusal)
            if task is not None:
                task.note("refused_at_arrival", reason=refusal)
        except errors.JournalUnusable as e:
            LOG.error("%s", e.sentence)

    # -- monitors --------------------------------------------------------------

    def _with_monitors(self, guest: ArrivingGuest, xml: bytes) -> bytes | None:
        """The XML with this host's monitors in the disks that name others; None for no change."""
        ceph = self._settings.ceph
        monitors = ceph_conf.monitors(ceph.conf_path, ceph.user)
        outdated = [disk for disk in guest.disks
                    if self._is_of_this_cluster(guest, disk) and self._differs(disk, monitors)]
        if not outdated:
            return None
        changed = arriving_xml.with_monitors(xml, outdated, [(m.host, m.port) for m in monitors])
        return changed if changed != xml else None

    def _is_of_this_cluster(self, guest: ArrivingGuest, disk: RbdDisk) -> bool:
        """Volumes may be in other clusters: the secret tells, or else the name of Nova's image."""
        if disk.has_conf or not disk.hosts or any(h.transport != "tcp" for h in disk.hosts):
            return False
        if disk.has_auth:
            return bool(disk.secret) and disk.secret == self._settings.ceph.secret_uuid.lower()
        return disk.image.rpartition("/")[2].startswith(f"{guest.uuid}_disk")

    def _differs(self, disk: RbdDisk, monitors: ty.Sequence[ceph_conf.Monitor]) -> bool:
        """Whether the disk names a monitor that this host's ceph.conf does not."""
        if not monitors:
            return False
        names = self._names
        unresolved = [m for m in monitors if not m.is_address and m.host not in names]

        def is_known(name: str, port: str) -> bool:
            number = int(port) if _PORT.fullmatch(port) else None
            host = ceph_conf.address(name)
            return any(m.is_at(name, number) or host in names.get(m.host, ())
                       for m in monitors)
        return not (unresolved or all(is_known(h.name, h.port) for h in disk.hosts))

    def _resolve(self) -> None:
        ceph = self._settings.ceph
        self._names = ceph_conf.resolved(ceph_conf.monitors(ceph.conf_path, ceph.user))


def ensure_arrival_awaited(_task: Task) -> results.Result:
    """From here on the hook may make the directory; its step is what undoes that."""
    return results.Done()


def ensure_arrival_directory_trashed(task: Task) -> None:
    """Of a guest that did not come nothing is left that was made here for it: by proof."""
    made = task.notes.get(MADE)
    if made is None or task.is_shared:
        return
    directory = task.ports.directories.pin(task.migration.instance)
    if directory is None:
        return
    with directory:
        if task.ports.hypervisor.state(task.migration.instance) is not GuestState.ABSENT:
            return  # it came after all, with a later migration, and uses it
        if directory.is_journaled(made["identity"]):
            proof.trash_when_proven(task, directory, holder=task.migration.source,
                                    asking_for=task.migration.key, demand_active=True)
