# SPDX-License-Identifier: Apache-2.0
"""Every error of rbd-worker, in one small tree.

What a caller does with an error follows from its branch:

* ``Transient``: may be gone a second later; repeated under a retry policy.
* ``Permanent``: repeating it cannot help; the plan turns back at once.
* ``Undecided``: nobody can tell yet what is true; the entry becomes
  *unresolved*, nothing is removed, and the question is asked again later.

Each class carries its data as attributes and says in ``remedy`` what an
operator can do.  Adapters (libvirt, librbd, oslo.messaging, the file system)
translate foreign exceptions at their edge; inside there are only these.
"""

import typing as ty

#: Characters of one error's text: enough for any sentence, too few to fill a disk.
_MAX_TEXT = 4096


class Error(Exception):
    """Base of all errors; ``msg`` is a template filled with keyword data."""

    msg: ty.ClassVar[str] = "{reason}"
    remedy: ty.ClassVar[str] = ""

    def __init__(self, **data: ty.Any) -> None:
        self.data = data
        super().__init__(_shown(self.msg.format(**data)))

    @property
    def sentence(self) -> str:
        """What went wrong and, where known, what to do about it."""
        text = str(self)
        remedy = _shown(self.remedy.format(**self.data))
        return f"{text}. {remedy}" if remedy else text


def _shown(text: str) -> str:
    """One printable line: names of files and words of peers must not forge lines of a log."""
    if len(text) > _MAX_TEXT:
        text = text[:_MAX_TEXT] + " [...]"
    text = " ".join(text.split("\n")) if "\n" in text else text
    return printable(text)


def printable(text: str) -> str:
    """``text`` with escapes in the place of what could steer a terminal or break a line."""
    return text if text.isprintable() else "".join(
        c if c.isprintable() else repr(c)[1:-1] for c in text)


class Transient(Error):
    """Worth a retry."""


class Permanent(Error):
    """A retry cannot help."""


class Undecided(Error):
    """The truth is not known yet; nothing may be removed."""


# -- what an operator gave us ------------------------------------------------


class BadConfiguration(Permanent):
    """An option's value is missing, unknown or contradicts another."""

    msg = "option {option}: {reason}"
    remedy = "{fix}"


class NotConfirmed(Permanent):
    """An operator was asked and did not say yes."""

    msg = "nothing was done: the answer to {question!r} was not y"


class NobodyToAsk(Permanent):
    """A question on a standard input that is no terminal."""

    msg = "nothing was done: {question!r} has to be answered, and standard input is no terminal"
    remedy = "Look at what it is about, then give --yes"


class NotWritten(Permanent):
    """A file that an operator asked for."""

    msg = "{path} cannot be written: {reason}"
    remedy = "Name a file in a directory that is there and may be written to"


class NotOurs(Permanent):
    """Nova does this, not the worker."""

    msg = "{what}: nova-compute moves guests here, not rbd-worker"
    remedy = "Ask Nova: {command}"


# -- what came in from outside -----------------------------------------------


class BadInput(Permanent):
    """A message or an argument that breaks its contract."""

    msg = "{what}: {reason}"


class UnknownMigration(BadInput):
    msg = "migration {migration}: the journal of {host} does not have it"
    remedy = "See 'rbd-workerctl migration list', or name another host with --host"


class TooManyOpen(BadInput):
    msg = "migration {migration} is not taken up: {limit} are open here already"
    remedy = ("Nova moves the guest without this worker; see 'rbd-workerctl migration list "
              "--open' for what has no end, and who sends so many")


class BadInstanceUUID(BadInput):
    msg = "{value!r} is not a canonical instance UUID"

    def __init__(self, value: object) -> None:
        super().__init__(value=_brief(value))


class KnownOtherwise(BadInput):
    """A message about a migration contradicts the journal: it is forged, or damaged."""

    msg = ("migration {migration} is known here as that of {instance} from {source} to "
           "{destination}")
    remedy = "Nothing was begun. To move the guest, order another migration"


class BadHostName(BadInput):
    msg = "{value!r} is not a host name"

    def __init__(self, value: object) -> None:
        super().__init__(value=_brief(value))


def _brief(value: object) -> str:
    """A list in a list in a list would exhaust the stack where its text is made."""
    return value[:64] if isinstance(value, str) else f"a value of type {type(value).__name__}"


# -- the instance directory --------------------------------------------------


class UnsafeDirectory(Permanent):
    """Something in or about a directory that this worker does not carry."""

    msg = "{path}: {reason}"
    remedy = ("Only regular files and directories are carried; the directory is "
              "left as it is, look at it and move by hand what does not belong there")


class AreaNotOwn(UnsafeDirectory):
    """The worker's own directory below instances_path, in which others could exchange files."""

    msg = "{path} does not belong to user {user} alone"
    remedy = ("Nothing in it is used or removed. See who changed it, then give it back: "
              "chown {user} {path}; chmod go-w {path}")


class DirectoryTooLarge(UnsafeDirectory):
    msg = "{path}: {reason}"
    remedy = ("Raise [rbd_worker] {option} if the directory is as it should be; "
              "nothing was copied and nothing was removed")


class DirectoryChanged(Transient):
    """A file or directory changed while it was being read or judged."""

    msg = "{path} changed while it was handled: {reason}"


class DirectoryExists(Permanent):
    """A directory stands where none may be overwritten."""

    msg = "{path} already exists"
    remedy = "Nothing was overwritten; look at it and remove or rename it by hand"


class ResizeInTheWay(DirectoryExists):
    """What is put back as the guest's directory would not be there for long."""

    msg = "{path}_resize stands there: a revert of that resize would delete {path}"
    remedy = "Confirm or revert it first (openstack server resize confirm); nothing was changed"


class DirectoryLost(Permanent):
    """A restart let go of a guest's files, and the directory that they were in is gone."""

    msg = "the directory of {instance} whose files were held on {host} was removed or replaced"


class LeftoverInTheWay(Permanent):
    """A directory stands at the destination, and nobody proved that it may go."""

    msg = "a directory of {instance} already stands on {host} and stays: {reason}"
    remedy = "Look at it on {host}; if it is a leftover, move it away by hand and migrate again"


class OtherMigrationOpen(Transient):
    """The guest's last migration has yet to come to its end at the destination."""

    msg = "migration {migration} of {instance} is not over on {host} yet: {reason}"


class NotUndone(Permanent):
    """A failed migration's remains stay at the destination, in the way of the next one."""

    msg = ("what the failed migration {migration} of {instance} left on {host} cannot be undone: "
           "{reason}")
    remedy = ("Mend what that names and migrate again; it is then undone first. "
              "rbd-workerctl migration show {migration} on {host} tells more")


class NoSpace(Permanent):
    msg = "no space left for {path}"
    remedy = "Free space or inodes on that file system"


class QuotaReached(NoSpace):
    msg = "no space left for {path}: a disk quota is used up"
    remedy = ("Raise the quota of its user, group or project on that file system, or free some "
              "of it")


class NoRoom(NoSpace):
    """Told before anything is written, from what the source has announced."""

    msg = "no space left for {path}: {needed} bytes are to come and {free} are free"
    remedy = "Free space on that file system, or migrate to another host; nothing was written"


class AccessDenied(Permanent):
    msg = "no permission for {path}"
    remedy = ("The worker must own instances_path or run with the capabilities its unit lists; "
              "rbd-workerctl runs as root or as the worker's user. What 'lsattr' shows as "
              "immutable or append-only, 'chattr -i -a' has to free first")


class CapabilitiesKept(Permanent):
    """Giving them up did not work; such a process may not listen to anybody."""

    msg = "this process could not give up its capabilities ({kept})"
    remedy = "Start it as etc/rbd-worker.service does, or as a user without any"


class FileSystemUnfit(Permanent):
    msg = "{path}: this file system cannot {wish}"
    remedy = "Keep instances_path on a local file system such as ext4, XFS or Btrfs"


class NotOneFileSystem(FileSystemUnfit):
    """The kernel renames nothing from one file system to another."""

    msg = "{path} is not on one file system with .rbd-worker, so nothing is moved between the two"
    remedy = ("Unmount what is mounted there, or give it the project quota of .rbd-worker; a "
              "directory in the lower layer of an overlay has to be moved by hand")


class InstancesPathAway(Transient):
    """instances_path is not the directory that this host's journal knows."""

    msg = "{path} looks not mounted, or is another file system than before: {reason}"
    remedy = ("Mount it; until then nothing in it is judged, made or removed. If it is right as "
              "it is, run 'rbd-workerctl path accept'")


class FileSystemFailed(Transient):
    msg = "{path}: {reason}"


class FileSystemReadOnly(FileSystemFailed):
    remedy = ("Mount that file system writable; where the kernel made it read-only, dmesg says "
              "why. Then the worker goes on by itself")


class DiskFailed(FileSystemFailed):
    remedy = ("See in dmesg what that file system's disk or server says; once it is mended the "
              "worker goes on by itself")


class MountedThere(Transient):
    """The kernel neither renames nor removes a mount point."""

    msg = "{path}: something is mounted there, which is not carried or moved to the trash"
    remedy = ("Unmount it, with 'umount --lazy' where the worker has it open; then the worker "
              "goes on by itself")


class DigestMismatch(Transient):
    msg = "{path} arrived with another content than its digest says"


class CopyTooSlow(Transient):
    msg = "{path} and what comes before it take longer than {seconds} s to arrive"
    remedy = "Check the network and RabbitMQ between the two hosts; what is here already is kept"


# -- libvirt -----------------------------------------------------------------


class HypervisorUnavailable(Transient):
    msg = "libvirt at {uri} cannot be asked: {reason}"
    remedy = "Check that libvirtd (or virtqemud) runs and that this user may open {uri}"


class NameUnresolved(Transient):
    """A host's name without an address, as this host sees it."""

    msg = "{name} does not resolve: {reason}"
    remedy = "Add {name} to DNS or /etc/hosts, with the address of its migration network"


class SecretUnusable(Permanent):
    """libvirt has no such secret, none of its value, or keeps the value to itself."""

    msg = "libvirt's secret {uuid} {reason}"
    remedy = ("Define it under that UUID, with 'virsh secret-define' and "
              "'virsh secret-set-value', and not as private")


class GuestNotHere(Permanent):
    msg = "no guest {instance} on {host}"


class HookInTheWay(Permanent):
    msg = "{path} is there already and is not rbd-worker's"
    remedy = ("Nothing was changed. Rename it to a name of its own in hooks/qemu.d (libvirt 6.5 "
              "or later), or call rbd-worker's hook from it")


class HooksNotOurs(Permanent):
    msg = "no permission for {path}"
    remedy = "Run rbd-workerctl as root: libvirt's hooks are root's alone"


class MoveRefused(Permanent):
    """libvirt refused the move for a reason that will not pass by itself."""

    msg = "libvirt refuses to move {instance}: {reason}"
    remedy = "{fix}"


class MoveInterrupted(Transient):
    msg = "the move of {instance} did not begin or was interrupted: {reason}"


class MoveUnsettled(Undecided):
    """libvirt's answer does not say where the guest is; both hosts must be asked."""

    msg = "libvirt ended the move of {instance} without saying where it is: {reason}"


# -- Ceph --------------------------------------------------------------------


class CephUnavailable(Transient):
    msg = "Ceph cannot be asked about {what}: {reason}"
    remedy = "Check {conf} and the keyring of client.{user}, and that the monitors answer"


class ImageMissing(CephUnavailable):
    """An answer, for once: that image is not there."""


class CephLoginRefused(Permanent):
    """The cluster answers, and does not accept this user with this key."""

    msg = "Ceph does not let client.{user} in with the key of {what}"
    remedy = ("Compare it with 'ceph auth get client.{user}'; a secret is set by "
              "'virsh secret-set-value'")


class CephForbids(Permanent):
    """A capability is lacking."""

    msg = "Ceph does not let client.{user} {wish}: {reason}"
    remedy = ("Give it mon 'profile rbd' and osd 'profile rbd pool={pool}' beside those of its "
              "other pools, with 'ceph auth caps client.{user}', which replaces all it has")


class CephBindingsMissing(Permanent):
    msg = "the Python modules rados and rbd are missing ({reason})"
    remedy = ("Install the distribution's packages python3-rados and python3-rbd; they are "
              "not on PyPI. A virtual environment needs the same Python version and "
              "--system-site-packages")


# -- snapshots -----------------------------------------------------------------


class FreezeRefused(Permanent):
    """No guest agent, or the agent says no."""

    msg = "the file systems of {instance} cannot be frozen: {reason}"
    remedy = ("Have qemu-guest-agent run in the guest and give it its channel (Nova: image "
              "property hw_qemu_guest_agent=yes), or take the snapshot without --freeze always")


class GuestFrozen(Transient):
    msg = "the file systems of {instance} are frozen and cannot be thawed yet: {reason}"
    remedy = ("It is tried again every few seconds; where it stays: virsh domfsthaw {instance} on "
              "the host that runs it")


class SnapshotTooSlow(Transient):
    """The guest comes first: it was thawed, and what had been taken of the disks was removed."""

    msg = "snapshot {name} of {instance} was given up: {reason}"
    remedy = "Look at Ceph's health and ask again, or take it without freezing (--freeze never)"


class SnapshotExists(Permanent):
    msg = "{image} has a snapshot {snapshot} already"
    remedy = "Choose another name, or delete that one first"


class SnapshotMissing(Permanent):
    msg = "no snapshot {name} of {instance} is known here: {reason}"
    remedy = ("See 'rbd-workerctl snapshot list'; ask the host that has the guest, or the one "
              "that took it")


class SnapshotInUse(Permanent):
    msg = "snapshot {snapshot} of {image} stays: {reason}"
    remedy = "Flatten or remove what was cloned of it, or unprotect it, and delete it then"


class InstanceBusy(Transient):
    """The disks of an instance are not touched while it moves, nor twice at a time."""

    msg = "the disks of {instance} are left alone now: {reason}"
    remedy = "Ask again when that is over"


class RollbackRefused(Permanent):
    """Nothing was changed: a rollback replaces the disks under whoever has them open."""

    msg = "{instance} cannot be rolled back: {reason}"
    remedy = ("Have it shut off (openstack server stop {instance}) with no client of Ceph on its "
              "disks, and all of its snapshot's disks attached")


class RollbackIncomplete(Permanent):
    """Some disks are as they were at the snapshot, others are not."""

    msg = "the rollback of {instance} to {name} did not end ({reason}): {states}"
    remedy = ("Do not start the guest on such disks. Ask again for the same rollback, or roll "
              "back to snapshot {safety}, which was taken before it")


class CopyInTheWay(Permanent):
    msg = "{image} is there already"
    remedy = "Nothing was overwritten; remove or rename it, or choose another pool"


class CopyRefused(Permanent):
    msg = "snapshot {name} of {instance} cannot be copied: {reason}"


class JobUnknown(Permanent):
    msg = "{host} knows no rollback or copy {job}"
    remedy = "It is remembered for a week, by the host that did it"


# -- the peer ----------------------------------------------------------------


class PeerUnreachable(Transient):
    msg = "the worker on {host} does not answer: {reason}"
    remedy = ("Check that rbd-worker runs on {host}, that images_type is rbd there, and that it "
              "reaches the same RabbitMQ")


class WorkerIdle(Permanent):
    msg = "rbd-worker is idle on {host}: [libvirt] images_type is not rbd ({files})"
    remedy = ("That is as it should be where no guest has its disks on Ceph RBD; otherwise give "
              "rbd-worker the nova.conf of nova-compute on this host")


class PeerIsBusy(PeerUnreachable):
    """It answers, and cannot do now what it is asked for."""

    msg = "the worker on {host} cannot do that now: {reason}"
    remedy = ""


class PeerSaysNo(Permanent):
    msg = "the worker on {host} refuses: {reason}"


class PeerUndecided(Undecided):
    msg = "the worker on {host} cannot tell yet: {reason}"


class PeerTooNew(Permanent):
    msg = "the worker on {host} does not speak version {version} of this worker's RPC API"
    remedy = ("Upgrade the older worker, or set [rbd_worker] rpc_version_cap to the oldest "
              "version in use while workers are upgraded")


# -- evidence ----------------------------------------------------------------


class NotProven(Undecided):
    """A removal was wanted and the three witnesses did not all agree."""

    msg = "the directory of {instance} stays: {reason}"


class LeftoverStays(Permanent):
    """It is proven to be one, and the operator wants only to be told."""

    msg = "the directory of {instance} is a leftover, its guest is on {holder}"
    remedy = ("It stays because [rbd_worker] audit_action is report: set it to trash, or move the "
              "directory away before the guest comes")


class NovaDisagrees(NotProven):
    """The witnesses agree, but Nova's record does not: a removal is not worth a quarrel."""

    msg = "the directory of {instance} stays: {reason}"


class PathNotCompared(Permanent):
    """A path that may be shared is treated as one that is; this end does not know how to."""

    msg = "whether both hosts share the directory of {instance} cannot be told: {reason}"
    remedy = ("Nothing was copied and nothing was removed. Look at that path: what is no "
              "directory there is yours to move away")


class OutcomeUnknown(Undecided):
    msg = "where {instance} is cannot be told: {reason}"


class ResizeWaits(Undecided):
    """Of what is placed now nothing would be left: a revert deletes the directory of that name."""

    msg = ("a resize or cold migration of {instance} waits on {host} to be confirmed or reverted: "
           "{instance}_resize stands there; what came for it stays where it is until then")
    remedy = ("Confirm or revert it (openstack server resize confirm). Where openstack server "
              "show does not say VERIFY_RESIZE, look at {instance}_resize and move it away")


class MoveLeftOpen(Undecided):
    msg = ("libvirt on {host} was ended in the last part of the move of {instance} and keeps a "
           "stopped copy of it; {destination} says {state}")
    remedy = ("Never resume the copy: the disks may have gone on without it. Where the guest "
              "runs on {destination}, end the copy: virsh destroy {instance} on {host}. Where it "
              "is gone there, end it too and start it again (openstack server reboot --hard)")


# -- Nova's record -------------------------------------------------------------


class NovaApiUnavailable(Transient):
    """Nova's record could not be read; everything goes on as if nobody had asked for it."""

    msg = "nova-api cannot be asked with {origin}: {reason}"
    remedy = "Check the credentials, and that this host reaches keystone and nova-api"


class NovaApiForbids(Permanent):
    msg = "nova-api does not let the user of {origin} see the servers of all projects: {reason}"
    remedy = "Give that user a role that may (admin in Nova's default policy)"


class OpenstackSdkMissing(Permanent):
    msg = "Nova's record cannot be read: openstacksdk cannot be imported ({reason})"
    remedy = "Run pip install rbd-worker[openstack], or unset os_cloud and os_auth_section"


# -- journal -----------------------------------------------------------------


class JournalUnusable(Permanent):
    msg = "the journal {path} cannot be used: {reason}"
    remedy = "{fix}"


class HostRenamed(Permanent):
    """The journal's migrations are those of a host with another name."""

    msg = "the journal {path} is that of host {known}, and [DEFAULT] host is {host}"
    remedy = ("Set [DEFAULT] host back to {known}; if the host has got another name for good, "
              "let its open migrations end under the old one, then move the file away")


class AnotherWorker(Permanent):
    msg = "another rbd-worker already runs on this host with {path}"
    remedy = "Stop it first; two workers would act on the same directories"


class HostTaken(Permanent):
    """One with a journal of its own, or on a machine that has this one's name."""

    msg = "another rbd-worker, started {started} UTC, answers for host {host} already"
    remedy = ("Stop it first, whichever state_directory or machine it has; where it is on another "
              "machine, give each its own [DEFAULT] host, as nova-compute needs it, too")


class NovaComputeRuns(Permanent):
    msg = "queue {queue} has {consumers} consumer(s): nova-compute runs for this host"
    remedy = "Set [rbd_worker] executor = nova; executor libvirt is for hosts without nova-compute"


class BrokerUnavailable(Transient):
    msg = "RabbitMQ at {url} cannot be used: {reason}"
