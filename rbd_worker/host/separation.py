# SPDX-License-Identifier: Apache-2.0
"""The process that hears the network gives its capabilities away before it does.

Called first thing, while there is one thread only: capabilities belong to
threads, and a thread that was there before would keep its own.  Whoever runs
as root keeps everything: taking capabilities from a process that owns every
file of the system would be for show.
"""

import contextlib
import ctypes
import dataclasses
import logging
import os
import pathlib

from rbd_worker import errors
from rbd_worker.host import deputy

LOG = logging.getLogger(__name__)

_PR_CAPBSET_READ = 23
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_SETS = ("CapInh", "CapPrm", "CapEff", "CapAmb")
_REMEDY = "see AmbientCapabilities= in etc/rbd-worker.service"


@dataclasses.dataclass(frozen=True)
class Separation:
    """How it went, to be told once there is a log.

    :ivar is_complete: files of other users can be worked with.
    """

    sentence: str
    is_complete: bool = True

    def tell(self) -> None:
        LOG.log(logging.INFO if self.is_complete else logging.WARNING, "%s", self.sentence)


def separate(instances_path: str | None) -> Separation:
    """Start the process with privileges, as far as there are any, and keep none here.

    :param instances_path: below which it may work; None where there will be no file work.
    :raises errors.CapabilitiesKept: a thread of this process still has some.
    """
    if os.geteuid() == 0:
        return Separation("rbd-worker runs as root: one process does everything with root's "
                          "rights; run it as nova-compute's user to have them separated")
    from rbd_worker.host import privileged  # as root nobody waits for it

    if instances_path is None:
        give_up()
        return Separation("this process has no capabilities")
    missing = privileged.missing_here()
    if missing:
        give_up()
        return Separation(f"rbd-worker has no {' and no '.join(missing)}: files of other users "
                          f"can be neither read nor given to them ({_REMEDY})", False)
    os.register_at_fork(after_in_parent=give_up)  # before oslo.privsep starts a thread here
    try:
        channel = privileged.fork(instances_path)
    except deputy.Gone as e:
        give_up()
        _demand_none()
        return Separation("the process for privileged file work did not start: files of other "
                          f"users can be neither read nor given to them ({e})", False)
    _demand_none()
    deputy.appoint(channel)
    return Separation(f"this process has no capabilities; process {channel.pid} has "
                      f"{' and '.join(privileged.NAMES)}, for files below {instances_path} only")


def give_up() -> None:
    """This thread has no capability and never gets one again, whatever it executes."""
    from oslo_privsep import capabilities

    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    capability = 0
    # needs CAP_SETPCAP, which a unit does not give; then the set is the unit's own
    while libc.prctl(_PR_CAPBSET_READ, capability, 0, 0, 0) >= 0:
        libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
        capability += 1
    capabilities.drop_all_caps_except([], [], [])  # the ambient ones go with them


def _demand_none() -> None:
    for task in pathlib.Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            lines = (task / "status").read_text().splitlines()
            kept = [line for line in lines if line.startswith(_SETS) and int(line.split()[1], 16)]
            if kept:
                raise errors.CapabilitiesKept(kept=", ".join(kept))
