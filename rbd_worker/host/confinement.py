# SPDX-License-Identifier: Apache-2.0
"""Is a process held back by SELinux or AppArmor?

Their policies are not asked what they would allow: what a label means is known
to whoever wrote them.  Only whether there is one that counts is told.
"""

import errno
import pathlib

PROC = pathlib.Path("/proc")
#: Reads 1 where SELinux forbids, 0 where it only logs.
ENFORCE = pathlib.Path("/sys/fs/selinux/enforce")
#: Types of SELinux' targeted policy that may do what their user may.
_UNCONFINED = frozenset({"unconfined_t", "unconfined_service_t", "initrc_t"})


def of(pid: int, proc: pathlib.Path = PROC, enforce: pathlib.Path = ENFORCE) -> str:
    """The label by which the process is confined; empty where nothing confines it.

    An AppArmor profile looks like ``libvirtd (enforce)``, a context of SELinux
    like ``system_u:system_r:virtqemud_t:s0``.

    :raises OSError: the kernel does not tell.
    """
    try:
        label = (proc / str(pid) / "attr/current").read_text().strip("\0\n ")
    except OSError as e:
        if e.errno == errno.EINVAL:  # no security module that labels processes
            return ""
        raise
    if label.count(":") >= 2 and " (" not in label:
        is_free = label.split(":")[2] in _UNCONFINED or not _enforces(enforce)
    else:
        is_free = label in ("", "unconfined") or label.endswith("(complain)")
    return "" if is_free else label


def _enforces(enforce: pathlib.Path) -> bool:
    try:
        return enforce.read_text().strip() != "0"
    except OSError:
        return True  # it has contexts, so it is there
