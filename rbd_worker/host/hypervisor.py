# SPDX-License-Identifier: Apache-2.0
"""This host's libvirt, in this worker's terms.

Every answer is asked for at that moment; nothing is remembered.  What cannot
be asked within the time limit is ``HypervisorUnavailable``, never a guess:
only libvirt's own "no such domain" is ABSENT.  What the states mean during a
migration stands in :mod:`rbd_worker.host.domain_state`.
"""

import typing as ty

import libvirt

from rbd_worker import conf, errors
from rbd_worker.host import connection, domain_state, domain_xml, moving
from rbd_worker.host.domain_state import Job
from rbd_worker.host.move_options import MoveOrder, check_options
from rbd_worker.host.moving import MoveResult, Progress
from rbd_worker.model import GuestState, RbdImage

__all__ = ["Hypervisor", "MoveOrder", "MoveResult", "Progress", "Versions", "check_options"]

T = ty.TypeVar("T")


class Versions(ty.NamedTuple):
    """As libvirt counts: major * 1,000,000 + minor * 1,000 + release.

    :ivar capabilities: libvirt's whole description of this host, XML.
    """

    libvirt: int
    hypervisor: int
    host_uuid: str
    capabilities: str = ""


class Hypervisor:
    """Thread-safe.  Questions block for ``timeout`` seconds at most.

    :param host: this host's name, for error texts.
    :param timeout: seconds that one question may take.
    :param moves: guests will be moved here, so that the options have to be fit
        for it; with executor nova they are Nova's business.
    :raises errors.BadConfiguration: the ``live_migration_*`` options contradict
        each other.
    """

    def __init__(self, settings: conf.LibvirtSettings, host: str, timeout: float, *,
                 moves: bool = True) -> None:
        if moves:
            check_options(settings)
        self._settings = settings
        self._host = host
        #: Shared with whoever follows libvirt's events.
        self.connection = connection.Connection(settings.uri, timeout)

    def state(self, instance: str) -> GuestState:
        """What libvirt says of one guest now.

        :raises errors.HypervisorUnavailable: it cannot be asked.
        """
        return self._ask(instance, domain_state.state_of, GuestState.ABSENT)

    def domains(self) -> dict[str, GuestState]:
        """The state of every guest that libvirt knows here, by UUID.

        :raises errors.HypervisorUnavailable: it cannot be asked.
        """
        def all_states(libvirtd: libvirt.virConnect) -> dict[str, GuestState]:
            found = {}
            for domain in libvirtd.listAllDomains():
                try:
                    found[domain.UUIDString()] = domain_state.state_of(domain)
                except libvirt.libvirtError as e:
                    if e.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:  # gone meanwhile
                        raise
            return found
        return self._translated(all_states)

    def instances(self) -> frozenset[str]:
        """The UUIDs of all guests that libvirt knows here; one question, however many they are.

        :raises errors.HypervisorUnavailable: it cannot be asked.
        """
        return self._translated(lambda libvirtd: frozenset(
            domain.UUIDString() for domain in libvirtd.listAllDomains()))

    def has_job(self, instance: str) -> bool:
        """Whether a migration or another job runs on the guest.

        :raises errors.HypervisorUnavailable: it cannot be asked.
        """
        return self._ask(instance, domain_state.job_of, Job.NONE) is not Job.NONE

    def images(self, instance: str) -> tuple[RbdImage, ...]:
        """The RBD images that the running guest and its definition name; none if absent.

        :raises errors.HypervisorUnavailable: it cannot be asked.
        :raises errors.BadInput: the XML names an image that cannot be made out.
        """
        none: tuple[str, ...] = ()
        texts = self._ask(instance, _descriptions, none)
        return tuple(dict.fromkeys(
            image for text in texts for image in domain_xml.rbd_images(text)))

    def versions(self) -> Versions:
        """Of what runs here, and what libvirt tells of this host.

        It may take seconds after libvirt's start, which then tries every QEMU.

        :raises errors.HypervisorUnavailable: it cannot be asked.
        """
        def ask(libvirtd: libvirt.virConnect) -> Versions:
            told = libvirtd.getCapabilities()
            return Versions(libvirtd.getLibVersion(), libvirtd.getVersion(),
                            domain_xml.host_uuid(told), told)
        return self._translated(ask)

    def description(self, instance: str) -> str | None:
        """The guest's XML as it runs, or as it is defined; None where libvirt has none.

        :raises errors.HypervisorUnavailable: it cannot be asked.
        """
        none: str | None = None
        return self._ask(instance, lambda domain: domain.XMLDesc(0), none)

    def try_uri(self, uri: str, seconds: float) -> None:
        """Open a connection and close it again, as libvirt does it for a move.

        :raises errors.HypervisorUnavailable: it does not open, or not in time.
        """
        connection.Connection(uri, seconds).open_another().close()

    # -- the guest's file systems ------------------------------------------------

    def agent_trouble(self, instance: str) -> str:
        """Why the guest's agent cannot be asked to freeze anything; empty where it can.

        :raises errors.HypervisorUnavailable: it cannot be told.
        """
        return self._ask(instance, lambda domain: domain_xml.agent_trouble(domain.XMLDesc(0)),
                         "it is not here")

    def freeze(self, instance: str, seconds: float) -> int:
        """Have the guest's agent flush and freeze its file systems; how many it froze.

        Whoever calls this has to call :meth:`thaw`, whatever came of it: the
        agent may carry out later what it did not answer in time.

        :param seconds: how long the agent may take, which may have much to flush.
        :raises errors.FreezeRefused: there is no agent, or it says no.
        :raises errors.HypervisorUnavailable: no answer in time.
        """
        try:
            return self.connection.ask(
                lambda libvirtd: int(libvirtd.lookupByUUIDString(instance).fsFreeze()), seconds)
        except libvirt.libvirtError as e:
            raise errors.FreezeRefused(instance=instance, reason=e) from e

    def thaw(self, instance: str) -> bool:
        """Have the guest's agent thaw its file systems; harmless if none is frozen.

        :returns: False where this host has no such guest running.
        :raises errors.GuestFrozen: the agent does not, or libvirt cannot be asked.
        """
        def thawed(libvirtd: libvirt.virConnect) -> bool:
            domain = libvirtd.lookupByUUIDString(instance)
            if not domain.isActive():
                return False
            domain.fsThaw()
            return True
        try:
            return self.connection.ask(thawed)
        except libvirt.libvirtError as e:
            if e.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
                return False
            if e.get_error_code() == libvirt.VIR_ERR_ARGUMENT_UNSUPPORTED:
                return True  # it has no channel for an agent: nothing can have frozen it
            raise errors.GuestFrozen(instance=instance, reason=e) from e
        except errors.HypervisorUnavailable as e:
            raise errors.GuestFrozen(instance=instance, reason=e) from e

    # -- moving ----------------------------------------------------------------

    def move(self, instance: str, order: MoveOrder,
             on_progress: ty.Callable[[Progress], None]) -> MoveResult | None:
        """Move a guest away; blocks its caller until libvirt says it is over.

        :param on_progress: called about twice a second, from another thread.
        :returns: libvirt's figures, None where it told none.
        :raises errors.MoveInterrupted: it may be ordered again.
        :raises errors.MoveRefused: it may not, ``fix`` says what to do.
        :raises errors.MoveUnsettled: both hosts have to be asked.
        :raises errors.HypervisorUnavailable: it did not begin.
        """
        return moving.Move(self.connection.open_another(), self._settings, instance, order,
                           on_progress).run()

    def follow(self, instance: str, on_progress: ty.Callable[[Progress], None]) -> str:
        """Look after a move that was ordered before this worker was started; blocks likewise.

        :param on_progress: called about twice a second, from this thread.
        :returns: why it was ended for taking too long; empty where it ended by itself.
        :raises errors.Error: libvirt cannot be asked about it any more.
        """
        return moving.Move(self.connection.open_another(), self._settings, instance,
                           MoveOrder(destination=""), on_progress).follow()

    def abort(self, instance: str) -> None:
        """End the guest's move at its next safe point; harmless if there is none.

        :raises errors.HypervisorUnavailable: libvirt cannot be asked.
        :raises errors.MoveRefused: it is too late, the guest runs there already.
        """
        def abort(domain: libvirt.virDomain) -> None:
            if domain_state.job_of(domain) is not Job.OUTGOING:
                return  # nothing, or a job that is not ours to end
            try:
                domain.abortJob()
            except libvirt.libvirtError as e:
                if e.get_error_code() != libvirt.VIR_ERR_OPERATION_INVALID:
                    raise
                if domain_state.job_of(domain) is Job.OUTGOING:
                    raise errors.MoveRefused(
                        instance=instance, reason=str(e),
                        fix="It is in its last part; wait for its end") from e
        self._ask(instance, abort, None)

    def progress(self, instance: str) -> Progress | None:
        """How far a guest's move away from here is; None where it does not move.

        :raises errors.HypervisorUnavailable: it cannot be asked.
        """
        none: Progress | None = None

        def look(domain: libvirt.virDomain) -> Progress | None:
            if domain_state.job_of(domain) is not Job.OUTGOING:
                return None
            return moving.progress_of(domain)
        return self._ask(instance, look, none)

    def force_complete(self, instance: str) -> None:
        """Make the guest's move end now: by post-copy if permitted, else by a pause.

        As Nova does it.  A paused guest runs again at its destination, or here
        if its move fails after all: libvirt sees to that.  A guest that does
        not move is not touched.

        :raises errors.HypervisorUnavailable: libvirt cannot be asked.
        :raises errors.MoveRefused: there is no move that could be completed.
        """
        def complete(domain: libvirt.virDomain) -> None:
            if domain_state.job_of(domain) is not Job.OUTGOING:
                raise errors.MoveRefused(instance=instance, reason="it is not moving", fix="")
            try:
                moving.force_complete(domain, self._settings)
            except libvirt.libvirtError as e:
                raise errors.MoveRefused(instance=instance, reason=str(e),
                                         fix="Wait for its end, or abort it") from e
        self._ask(instance, complete, None)

    def close(self) -> None:
        """Let go of libvirt; moves go on, libvirt does them."""
        self.connection.close()

    # -- inside ----------------------------------------------------------------

    def _ask(self, instance: str, question: ty.Callable[[libvirt.virDomain], T],
             absent: T) -> T:
        """Put a question to one domain; ``absent`` where libvirt knows none."""
        def asked(libvirtd: libvirt.virConnect) -> T:
            try:
                return question(libvirtd.lookupByUUIDString(instance))
            except libvirt.libvirtError as e:
                if e.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
                    return absent
                raise
        return self._translated(asked)

    def _translated(self, question: ty.Callable[[libvirt.virConnect], T]) -> T:
        try:
            return self.connection.ask(question)
        except libvirt.libvirtError as e:
            raise errors.HypervisorUnavailable(
                uri=self.connection.uri,
                reason=f"{self._host}: {e} (code {e.get_error_code()})") from e


def _descriptions(domain: libvirt.virDomain) -> tuple[str, ...]:
    live = domain.XMLDesc(0)
    if not domain.isActive() or not domain.isPersistent():
        return (live,)
    return live, domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
