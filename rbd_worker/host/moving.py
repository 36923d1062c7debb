# SPDX-License-Identifier: Apache-2.0
"""One guest's move: ordered from libvirt, watched, and driven to its end.

``migrateToURI3`` blocks for as long as the move takes; a thread beside it
reads the progress twice a second, raises the permitted downtime step by step,
and takes ``live_migration_timeout_action`` when the time is up.  Peer-to-peer:
should this process die, libvirt goes on without it.
"""

import contextlib
import dataclasses
import logging
import threading
import time
import typing as ty

import libvirt

from rbd_worker import conf, request_context
from rbd_worker.host import domain_state, domain_xml, move_errors, move_options
from rbd_worker.host.move_options import MoveOrder
from rbd_worker.model import GuestState

LOG = logging.getLogger(__name__)

FIRST_LOOK_SECONDS, LOOK_SECONDS = 0.1, 0.5
#: The figures of a finished move come as an event, about when the call returns.
FIGURES_SECONDS = 3.0
#: What libvirt says of a guest that has left, or that runs no more.
_OVER = (libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_ERR_OPERATION_INVALID)


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far a move is; sizes in bytes, times in milliseconds.

    :ivar rate: bytes a second.
    :ivar iteration: how many times the guest's memory was gone through.
    :ivar downtime_limit: that the move may take at its end, 0 where not set yet.
    """

    memory_total: int
    memory_processed: int
    memory_remaining: int
    rate: int
    iteration: int
    downtime_limit: int
    elapsed: int
    mode: ty.Literal["precopy", "postcopy"]


@dataclasses.dataclass(frozen=True)
class MoveResult:
    """libvirt's figures of a move that ended well."""

    downtime_ms: int
    total_ms: int
    memory_bytes: int


class Move:
    """One order; ``run`` is called once.

    :param connection: of this move alone; ``run`` closes it.
    """

    def __init__(self, connection: libvirt.virConnect, settings: conf.LibvirtSettings,
                 instance: str, order: MoveOrder,
                 on_progress: ty.Callable[[Progress], None]) -> None:
        self._connection = connection
        self._settings = settings
        self._instance = instance
        self._order = order
        self._on_progress = on_progress
        self._ended = threading.Event()
        self._figures: dict[str, ty.Any] = {}
        self._figures_came = threading.Event()
        self._downtime = 0
        self._timed_out = ""

    def run(self) -> MoveResult | None:
        """Move the guest; blocks until libvirt says that the move is over.

        :returns: libvirt's figures, None where it told none.
        :raises errors.MoveInterrupted, errors.MoveRefused, errors.MoveUnsettled:
            see :mod:`rbd_worker.host.move_errors`.
        :raises errors.BadInput: the order or the guest's XML cannot be used.
        """
        try:
            domain = self._connection.lookupByUUIDString(self._instance)
            with self._following(domain):
                self._migrate(domain)
        except libvirt.libvirtError as e:
            raise move_errors.sorted_error(self._instance, e, self._timed_out) from e
        finally:
            with contextlib.suppress(libvirt.libvirtError):
                self._connection.close()
        return self._result()

    def follow(self) -> str:
        """Watch a move that an earlier worker ordered, as ``run`` would; until it is over.

        Its time counts from its own beginning, by libvirt's clock.

        :returns: why this ended it, empty where it ended by itself.
        :raises errors.Error: libvirt cannot be asked any more; as ``run``'s.
        """
        try:
            domain = self._connection.lookupByUUIDString(self._instance)
            memory = domain_xml.memory_bytes(domain.XMLDesc(0))
            elapsed = int(domain.jobStats().get("time_elapsed", 0)) / 1000
            LOG.info("[instance: %s] has been moving for %.0f s and is watched again",
                     self._instance, elapsed)
            began = time.monotonic() - elapsed
            while (domain_state.job_of(domain) is domain_state.Job.OUTGOING
                   and domain_state.state_of(domain) is GuestState.OUTGOING):
                self._look_after(domain, memory, time.monotonic() - began)
                self._ended.wait(LOOK_SECONDS)
        except libvirt.libvirtError as e:
            if e.get_error_code() not in _OVER:
                raise move_errors.sorted_error(self._instance, e, self._timed_out) from e
        finally:
            with contextlib.suppress(libvirt.libvirtError):
                self._connection.close()
        return self._timed_out

    # -- inside --------------------------------------------------------------

    def _migrate(self, domain: libvirt.virDomain) -> None:
        migratable = libvirt.VIR_DOMAIN_XML_SECURE | libvirt.VIR_DOMAIN_XML_MIGRATABLE
        xml = domain.XMLDesc(migratable)
        persistent_xml = domain.XMLDesc(migratable | libvirt.VIR_DOMAIN_XML_INACTIVE)
        parameters = move_options.parameters(self._settings, self._order, xml, persistent_xml)
        uri = move_options.connection_uri(self._settings, self._order)
        flags = move_options.flags(self._settings)
        LOG.info("[instance: %s] moves to %s (flags %#x, parameters %s)", self._instance, uri,
                 flags, ", ".join(sorted(parameters)) or "none")
        watcher = threading.Thread(
            target=request_context.bound(self._watch),
            args=(domain, domain_xml.memory_bytes(xml)), daemon=True,
            name=f"progress-{self._instance[:8]}")
        watcher.start()
        try:
            domain.migrateToURI3(uri, parameters, flags)
        finally:
            self._ended.set()
            watcher.join(timeout=1)  # libvirt may not answer it any more

    def _watch(self, domain: libvirt.virDomain, memory: int) -> None:
        """The thread beside the move."""
        started = time.monotonic()
        pause = FIRST_LOOK_SECONDS
        while not self._ended.wait(pause):
            pause = LOOK_SECONDS
            try:
                self._look_after(domain, memory, time.monotonic() - started)
            except libvirt.libvirtError as e:
                LOG.debug("[instance: %s] progress: %s", self._instance, e)
            except Exception:
                LOG.exception("[instance: %s] the move is not watched any more", self._instance)
                return

    def _look_after(self, domain: libvirt.virDomain, memory: int, elapsed: float) -> None:
        """Tell the progress; do what is due ``elapsed`` seconds after the beginning."""
        progress = progress_of(domain, self._downtime)
        if progress is None:
            return
        self._on_progress(progress)
        if progress.mode != "precopy":
            return
        self._raise_downtime(domain, move_options.downtime_steps(self._settings, memory), elapsed)
        limit = move_options.completion_timeout(self._settings, memory)
        if limit and elapsed > limit and not self._timed_out:
            self._time_out(domain, limit)

    def _raise_downtime(self, domain: libvirt.virDomain,
                        steps: tuple[tuple[float, int], ...], elapsed: float) -> None:
        wanted = [milliseconds for after, milliseconds in steps if elapsed > after][-1]
        if wanted != self._downtime:
            domain.migrateSetMaxDowntime(wanted, 0)
            LOG.debug("[instance: %s] may stand still for %d ms", self._instance, wanted)
            self._downtime = wanted

    def _time_out(self, domain: libvirt.virDomain, limit: float) -> None:
        action = self._settings.live_migration_timeout_action
        self._timed_out = f"not complete after {limit:g} s: {action}"
        LOG.warning("[instance: %s] the move is %s (live_migration_completion_timeout)",
                    self._instance, self._timed_out)
        if action == "abort":
            domain.abortJob()
        else:
            force_complete(domain, self._settings)

    @contextlib.contextmanager
    def _following(self, domain: libvirt.virDomain) -> ty.Iterator[None]:
        """Catch the figures, which libvirt keeps only as long as the source's domain."""
        try:
            number = self._connection.domainEventRegisterAny(
                domain, libvirt.VIR_DOMAIN_EVENT_ID_JOB_COMPLETED, self._completed, None)
        except libvirt.libvirtError as e:
            LOG.debug("[instance: %s] no figures of the move: %s", self._instance, e)
            yield
            return
        try:
            yield
            self._figures_came.wait(FIGURES_SECONDS)
        finally:
            with contextlib.suppress(libvirt.libvirtError):
                self._connection.domainEventDeregisterAny(number)

    def _completed(self, connection: libvirt.virConnect, domain: libvirt.virDomain,
                   figures: dict[str, ty.Any], opaque: object) -> None:
        if figures.get("operation", libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT) == (
                libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT):
            self._figures = figures
            self._figures_came.set()

    def _result(self) -> MoveResult | None:
        if not self._figures:
            return None
        return MoveResult(downtime_ms=self._figures.get("downtime", 0),
                          total_ms=self._figures.get("time_elapsed", 0),
                          memory_bytes=self._figures.get("memory_processed", 0))


def progress_of(domain: libvirt.virDomain, downtime_limit: int = 0) -> Progress | None:
    """What libvirt tells of the job right now; None where it tells no memory.

    :param downtime_limit: as it was set last, milliseconds; libvirt does not tell it.
    :raises libvirt.libvirtError: it cannot be asked.
    """
    stats = domain.jobStats()
    if not stats.get("type") or not stats.get("memory_total"):  # all zeros after an abort
        return None
    is_postcopy = tuple(domain.state()) == (libvirt.VIR_DOMAIN_PAUSED,
                                            libvirt.VIR_DOMAIN_PAUSED_POSTCOPY)
    return Progress(
        memory_total=stats["memory_total"], memory_processed=stats["memory_processed"],
        memory_remaining=stats["memory_remaining"], rate=stats.get("memory_bps", 0),
        iteration=stats.get("memory_iteration", 0), downtime_limit=downtime_limit,
        elapsed=stats.get("time_elapsed", 0), mode="postcopy" if is_postcopy else "precopy")


def force_complete(domain: libvirt.virDomain, settings: conf.LibvirtSettings) -> None:
    """Make a move end: by post-copy where it is permitted, else by stopping the guest.

    A stopped guest dirties no memory.  libvirt lets it run again at its
    destination, and here if the move fails after all.

    :raises libvirt.libvirtError: the move goes on as before.
    """
    if move_options.flags(settings) & libvirt.VIR_MIGRATE_POSTCOPY:
        domain.migrateStartPostCopy(0)
    else:
        domain.suspend()
