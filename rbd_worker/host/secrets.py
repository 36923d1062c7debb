# SPDX-License-Identifier: Apache-2.0
"""Which of libvirt's secrets exist on this host; never what they hold.

What exists is remembered, so that an arriving guest waits for libvirt only
where something may be missing.  Secrets are a driver of their own in libvirt:
asking for them needs no lock of any domain, unlike any question about a guest
that is arriving at that moment.
"""

import typing as ty

import libvirt

from rbd_worker import errors
from rbd_worker.host.bounded import Bounded
from rbd_worker.host.connection import Connection

T = ty.TypeVar("T")

#: Kept apart from the other questions' threads: while a guest arrives these may wait for it.
_THREADS = 2


class Secrets:
    """Thread-safe.

    :param connection: shared with whoever else asks this libvirt.
    :param timeout: seconds that one question may take.
    """

    def __init__(self, connection: Connection, timeout: float) -> None:
        self._connection = connection
        self._bounded = Bounded("secrets", timeout, lambda reason: errors.HypervisorUnavailable(
            uri=connection.uri, reason=reason), threads=_THREADS)
        self._usable: frozenset[str] = frozenset()

    def refresh(self) -> None:
        """Learn anew which secrets exist and have a value.

        :raises errors.HypervisorUnavailable: libvirt cannot be asked; what was known is kept.
        """
        def ask(libvirtd: libvirt.virConnect) -> frozenset[str]:
            return frozenset(secret.UUIDString() for secret in libvirtd.listAllSecrets()
                             if _has_value(secret))
        self._usable = self._asked(ask)

    def missing(self, uuid: str) -> str:
        """Why the secret cannot be used here; empty where it can, or could a moment ago.

        :raises errors.HypervisorUnavailable: it is not known and cannot be asked.
        """
        if uuid in self._usable:
            return ""

        def ask(libvirtd: libvirt.virConnect) -> str:
            try:
                secret = libvirtd.secretLookupByUUIDString(uuid)
            except libvirt.libvirtError as e:
                if e.get_error_code() == libvirt.VIR_ERR_NO_SECRET:
                    return "is not defined"
                raise
            return "" if _has_value(secret) else "has no value"
        reason = self._asked(ask)
        if not reason:
            self._usable |= {uuid}
        return reason

    def _asked(self, question: ty.Callable[[libvirt.virConnect], T]) -> T:
        try:
            return self._bounded.run(lambda: self._connection.ask(question))
        except libvirt.libvirtError as e:
            raise errors.HypervisorUnavailable(uri=self._connection.uri, reason=e) from e


def _has_value(secret: libvirt.virSecret) -> bool:
    """libvirt tells that there is none with the error for a missing secret.

    A private secret's value may be read by nobody: that counts as a value.
    """
    try:
        secret.value()
    except libvirt.libvirtError as e:
        return bool(e.get_error_code() != libvirt.VIR_ERR_NO_SECRET)
    return True
