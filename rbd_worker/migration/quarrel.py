# SPDX-License-Identifier: Apache-2.0
"""Nova's record beside what libvirt says: what is true, and what mends it.  Pure.

Only libvirt knows where a guest runs.  Where Nova's record says otherwise,
nearly everything that Nova offers does harm: ``reboot --hard``, ``start``,
``rebuild`` and ``evacuate`` start the guest where the record has it, beside
the one that runs, on the same disks.  No command of Nova's moves a record to
where its guest is, so the guest goes to where the record says.
"""

import dataclasses
import enum

from rbd_worker.model import NovaRecord


class Stance(enum.Enum):
    """What Nova's record is worth beside the guest."""

    AGREES = enum.auto()
    #: There is none, or it could not be read.
    SILENT = enum.auto()
    #: It agrees about the place, but Nova is doing something to the guest.
    BUSY = enum.auto()
    DISAGREES = enum.auto()


@dataclasses.dataclass(frozen=True)
class Opinion:
    """:ivar sentence: for the operator; empty where there is nothing to say."""

    stance: Stance
    sentence: str = ""

    @property
    def allows(self) -> bool:
        """False where a directory stays on account of the record.

        True permits nothing: the witnesses alone do.
        """
        return self.stance in (Stance.AGREES, Stance.SILENT)


AGREES = Opinion(Stance.AGREES)

#: vm_states in which Nova expects a guest of libvirt's.
_ON_A_HOST = ("active", "paused", "error")


def judge(instance: str, record: NovaRecord | None, holder: str, *, is_running: bool,
          uri: str) -> Opinion:
    """Compare the record of a guest with where it was found.

    :param record: None where Nova has none, or does not show it.
    :param holder: the host whose libvirt has the guest; empty where none or several have it.
    :param is_running: False where the holder has it shut off.
    :param uri: libvirt's of the record's host, as a move to it would use.
    """
    if record is None:
        return Opinion(Stance.SILENT, "Nova has no record of it: it was deleted, or these "
                                      "credentials may not see it")
    if not holder:
        return _without_holder(instance, record)
    if record.host != holder:
        mend = _move(instance, record, holder, uri) if is_running else (
            _start(instance, record, holder))
        found = "runs" if is_running else "is shut off"
        return Opinion(Stance.DISAGREES,
                       f"Nova's record {record}, but the guest {found} on {holder}. {mend}")
    if record.task_state:
        return Opinion(Stance.BUSY,
                       f"Nova is at work on it: its record {record}. Where that task has died, "
                       f"openstack server set --state active {instance} ends it")
    if record.vm_state == "error" and is_running:
        return Opinion(Stance.AGREES,
                       f"Nova's record {record}, and the guest runs there: openstack server set "
                       f"--state active {instance}")
    return AGREES


def _move(instance: str, record: NovaRecord, holder: str, uri: str) -> str:
    if record.host is None:
        return ("Do not start, unshelve or evacuate it: Nova would start a second guest on the "
                f"same disks. Look at it on {holder} with virsh dominfo {instance}; where it "
                "is not wanted there, virsh shutdown, then virsh undefine")
    return (
        "Do not reboot it hard, start, rebuild or evacuate it: Nova would start a second guest "
        "on the same disks. No command of Nova's changes the record; the guest has to go to "
        f"{record.host}: 1. {record.host} needs its directory (rbd-workerctl trash list there; "
        f"trash restore, or mkdir as Nova's user). 2. on {holder}: virsh migrate --live --p2p "
        f"--undefinesource --persistent {instance} {uri} 3. where openstack server show then "
        f"says ERROR: openstack server set --state active {instance} 4. nova-manage placement "
        f"heal_allocations --force --instance {instance}; nova-manage placement audit shows what "
        "else is still booked")


def _start(instance: str, record: NovaRecord, holder: str) -> str:
    if record.host is None:
        return "Its definition there is in nobody's way, as long as Nova does not need it"
    return (f"To start it where the record has it: virsh undefine {instance} on {holder} (its "
            f"disks stay), then openstack server reboot --hard {instance}")


def _without_holder(instance: str, record: NovaRecord) -> Opinion:
    said = f"Nova's record {record}"
    if record.vm_state not in _ON_A_HOST or record.host is None:
        return Opinion(Stance.SILENT, said)
    return Opinion(
        Stance.DISAGREES,
        f"{said}, but no single host was found to have the guest. Once rbd status of its "
        f"{instance}_disk shows no watcher, nobody runs it: openstack server reboot --hard "
        f"{instance} then starts it on {record.host}")
