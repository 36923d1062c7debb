# SPDX-License-Identifier: Apache-2.0
"""Which of libvirt's secrets exist on this host; what they hold is lent, never kept.

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

    def lend(self, uuid: str, use: ty.Callable[[bytes], T]) -> T:
        """What ``use`` makes of a secret's value as libvirt has it now.

        :param use: called with the value, which it may neither keep nor tell.
        :raises errors.SecretUnusable: there is no such secret, or its value cannot be had.
        :raises errors.HypervisorUnavailable: libvirt cannot be asked.
        """
        def ask(libvirtd: libvirt.virConnect) -> bytes:
            try:
                secret = libvirtd.secretLookupByUUIDString(uuid)
            except libvirt.libvirtError as e:
                raise _unusable(uuid, e, "is not defined") from e
            try:
                return bytes(secret.value())
            except libvirt.libvirtError as e:
                raise _unusable(uuid, e, "has no value") from e
        return use(self._asked(ask))

    def _asked(self, question: ty.Callable[[libvirt.virConnect], T]) -> T:
        try:
            return self._bounded.run(lambda: self._connection.ask(question))
        except libvirt.libvirtError as e:
            raise errors.HypervisorUnavailable(uri=self._connection.uri, reason=e) from e


def _unusable(uuid: str, error: libvirt.libvirtError, missing: str) -> Exception:
    """Ours for what libvirt says of the secret itself; any other error as it is."""
    code = error.get_error_code()
    if code == libvirt.VIR_ERR_NO_SECRET:
        return errors.SecretUnusable(uuid=uuid, reason=missing)
    if code in (libvirt.VIR_ERR_INVALID_SECRET, libvirt.VIR_ERR_OPERATION_DENIED):
        return errors.SecretUnusable(uuid=uuid, reason="is private: its value is not to be had")
    return ty.cast(Exception, error)


def _has_value(secret: libvirt.virSecret) -> bool:
    """libvirt tells that there is none with the error for a missing secret.

    A private secret's value may be read by nobody: that counts as a value.
    """
    try:
        secret.value()
    except libvirt.libvirtError as e:
        return bool(e.get_error_code() != libvirt.VIR_ERR_NO_SECRET)
    return True
