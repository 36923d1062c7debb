# SPDX-License-Identifier: Apache-2.0
"""The one place where everything is built, started and stopped, in order.

Start: journal (one worker a host), adapters, open entries put back, the RPC
server, libvirt's events, the tap.  Whatever is away at that moment (broker,
libvirt, Ceph, peers) is waited for in the background; only a wrong
configuration or an unusable journal ends the start.  Stop: the same
backwards; open entries stay in the journal.
"""

import contextlib
import logging
import resource
import threading
import time
import typing as ty

from rbd_worker import condition, conf, errors, news, periodic, vitals
from rbd_worker.host import (
    clock_guard,
    evidence,
    instances,
    mounted,
    nova_api,
    peers,
    rbd,
    secrets,
    trash,
    trash_pages,
)
from rbd_worker.host import hypervisor as hypervisors
from rbd_worker.insight import notifying
from rbd_worker.migration import (
    arrival,
    audit,
    control,
    coordinator,
    desk,
    history,
    janitor,
    journal,
    mover,
    records,
    task,
    testimony,
)
from rbd_worker.model import Executor
from rbd_worker.preflight import bench, matrix, pair, survey
from rbd_worker.snapshots import desk as snapshots
from rbd_worker.triggers import (
    beside,
    broker,
    consumers,
    control_endpoint,
    domain_events,
    hearing,
    history_endpoint,
    hook_socket,
    parcels,
    peer_server,
    preflight_endpoint,
    snapshot_endpoint,
    tap,
)
from rpcapi import client as rpc_client
from rpcapi import payloads

if ty.TYPE_CHECKING:
    import oslo_messaging

    from rbd_worker.insight import outlook

LOG = logging.getLogger(__name__)

#: Seconds between two looks at secrets and names that an arriving guest may need.
ARRIVAL_FACTS_SECONDS = 60
#: How much of hook_timeout an arriving guest waits for libvirt's word on a secret at most.
_SECRET_SHARE = 0.25
#: Seconds of a preflight that the same may take; a login with the secret comes after it.
_SURVEY_SECRET_SECONDS = 1.5


class Worker:
    """One host's worker; ``start`` and ``stop`` once each, from the main thread.

    :param transport: of oslo.messaging, for calls of and to peers.
    :param broker_settings: where the tap listens.
    :param hypervisor, images: stand-ins for libvirt and Ceph; the real ones by default.
    :raises errors.AnotherWorker: one runs here already.
    :raises errors.JournalUnusable: the journal cannot be written.
    :raises errors.HostRenamed: it is the journal of a host with another name.
    :raises errors.HostTaken, errors.NovaComputeRuns: from ``start``; another acts for this host.
    """

    def __init__(self, settings: conf.Settings, transport: "oslo_messaging.Transport",
                 broker_settings: broker.BrokerSettings,
                 hypervisor: hypervisors.Hypervisor | None = None,
                 images: rbd.ImageStore | None = None) -> None:
        self.settings = settings
        self.told = news.News()
        self._broker_settings = broker_settings
        self._nova_consumers = consumers.Consumers(
            lambda: tap.consumers_of(broker_settings, f"compute.{settings.host}"))
        self.journal = journal.Journal(settings.state_directory, host=settings.host,
                                       told=self.told)
        self.hypervisor = hypervisor or hypervisors.Hypervisor(
            settings.libvirt, settings.host, settings.libvirt_timeout,
            moves=settings.executor is Executor.LIBVIRT)
        self.images = images or rbd.ImageStore(settings.ceph, settings.ceph_timeout)
        self._pool = vitals.WatchedPool(settings.workers, "plan")
        self.coordinator = coordinator.Coordinator(
            self._ports(transport, broker_settings), self._pool)
        self.tap = tap.Tap(broker_settings, settings.host, _tap_options(settings),
                           hearing.Hearing(self.coordinator, self._begun).heard)
        self.events = domain_events.DomainEvents(
            self.hypervisor, self._on_event, self.coordinator.wake_all)
        ports = self.coordinator.ports
        self.audit = audit.Audit(ports)
        testimonies = testimony.Testimonies(
            settings.host, self.hypervisor, self.images, ports.directories, self.journal,
            self.coordinator.listed)
        shutdown = ports.shutdown
        self.snapshots = snapshots.Desk(
            settings, self.hypervisor, self.images, self.journal, self.coordinator.tasks_of,
            lambda: self._janitor.doubt, shutdown)
        self._janitor = janitor.Janitor(
            ports, clock_guard.ClockGuard(settings.state_directory))
        self.condition = condition.Condition(
            settings, time.time(), self.coordinator, self._pool, self.tap, self._janitor,
            self.snapshots, lambda: self.peer_server.is_deaf)
        self.peer_server = peer_server.PeerServer(
            transport, settings.host,
            peer_server.Endpoint(desk.Desk(self.coordinator), testimonies, self.audit,
                                 self.condition.describe,
                                 parcels.Sender(broker_settings, settings.host)),
            control_endpoint.ControlEndpoint(control.Control(self.coordinator), self._begun),
            history_endpoint.HistoryEndpoint(
                history.History(settings.host, self.journal),
                trash_pages.TrashPages(settings.host, ports.trash)),
            self._preflight(rpc_client.Client(transport, settings.rpc_version_cap)),
            snapshot_endpoint.SnapshotEndpoint(self.snapshots),
            told=self.told)
        self._auditor = periodic.Periodic(
            "audit", self._audit_all, settings.audit_interval, shutdown,
            "the audit found out nothing")
        self.arrivals = arrival.Arrivals(
            settings, ports.directories,
            secrets.Secrets(self.hypervisor.connection, settings.hook_timeout * _SECRET_SHARE),
            self.coordinator.tasks_of, self.journal.refuse)
        self.hook_socket = hook_socket.HookSocket(
            settings.hook_socket, settings.hook_timeout, self.arrivals.answer, self.told)
        self._scout = periodic.Periodic(
            "arrivals", self.arrivals.refresh, ARRIVAL_FACTS_SECONDS, shutdown,
            "what an arriving guest may need is not known")
        self._warmer = threading.Thread(target=self._warm_up, name="warm-up", daemon=True)
        self.metrics = self._metrics(settings.metrics_listen)
        self._notifications = notifying.opened(transport, settings.host, self.told)

    def _ports(self, transport: "oslo_messaging.Transport",
               broker_settings: broker.BrokerSettings) -> task.Ports:
        settings = self.settings
        marker = mounted.Marker(settings.instances_path, settings.host, self.journal)
        directories = instances.of(settings, marker.check)
        client = rpc_client.Client(transport, settings.rpc_version_cap)
        others = peers.Peers(
            client, settings.host,
            parcels.Receiver(broker_settings, settings.host) if client.may_send("1.1") else None)
        shutdown = threading.Event()
        return task.Ports(
            settings=settings, journal=self.journal, hypervisor=self.hypervisor,
            directories=directories,
            trash=trash.Trash(directories, settings.trash_retention,
                              max_percent=settings.trash_max_percent),
            peers=others,
            witnesses=evidence.Witnesses(self.hypervisor, self.images, directories, others,
                                         settings.ceph.pool),
            movers=mover.Movers(self.hypervisor, settings.max_concurrent_live_migrations,
                                settings.live_migration_retry_count, shutdown),
            shutdown=shutdown, records=_records(settings),
            nova_consumers=self._nova_consumers.count, told=self.told)

    def _preflight(self, client: rpc_client.Client) -> preflight_endpoint.PreflightEndpoint:
        surveyor = survey.Surveyor(bench.Bench(
            settings=self.settings, hypervisor=self.hypervisor, images=self.images,
            directories=self.coordinator.ports.directories,
            secrets=secrets.Secrets(self.hypervisor.connection, _SURVEY_SECRET_SECONDS),
            journal=self.journal, hearing=self.condition.heard_lately))
        return preflight_endpoint.PreflightEndpoint(
            surveyor, pair.Preflight(surveyor, client), matrix.Matrix(surveyor, client))

    def _metrics(self, listen: tuple[str, int] | None) -> "outlook.Outlook | None":
        if listen is None:
            return None
        from rbd_worker.insight import outlook, overlap, page, present  # only where it is wanted
        ports = self.coordinator.ports
        return outlook.Outlook(
            listen, self.told,
            present.Sources(
                executor=self.settings.executor.value, started=self.condition.started,
                open_entries=self.journal.open_entries, tap=self.tap.status,
                trash=ports.trash.usage, troubles=self.condition.troubles),
            lambda: page.Health(self.condition.ailment(), self.condition.hearing),
            overlap.Sight(
                images=self.hypervisor.images, watchers=self.images.watchers,
                own=self.images.own_addresses,
                theirs=lambda migration: frozenset(
                    ports.peers.testify(migration.peer, migration.instance).addresses)))

    # -- life ----------------------------------------------------------------

    def start(self) -> None:
        beside.refuse_nova_compute(self.settings, self._nova_consumers.count)
        beside.refuse_another_worker(self.settings, self._broker_settings,
                                     self.coordinator.ports.peers.describe)
        self.coordinator.recover()
        if self.metrics is not None:
            self.metrics.start()
        if self._notifications is not None:
            self._notifications.start()
        self.peer_server.start()
        self.events.start()
        if self.settings.hook_actions:
            self.hook_socket.start()
            self._scout.start()
        self.tap.start()
        self._warmer.start()
        self._janitor.start()
        self.snapshots.start()
        self._auditor.start()

    def wait_ready(self, seconds: float) -> bool:
        """True as soon as peers and casts are heard; False where that takes longer."""
        deadline = time.monotonic() + seconds
        is_hearing = (self.peer_server.wait_started(seconds)
                      and self.tap.wait_hearing(max(0.0, deadline - time.monotonic())))
        self._warmer.join(max(0.0, deadline - time.monotonic()))
        return is_hearing

    def stop(self) -> None:
        self.coordinator.ports.shutdown.set()
        with contextlib.suppress(errors.JournalUnusable):  # told already; thawed at the start
            self.snapshots.stop()
        if self.metrics is not None:
            self.metrics.stop()
        self.hook_socket.stop()
        self.tap.stop()
        self.peer_server.stop(self._knock)
        self.events.stop()
        self.coordinator.stop()
        if self._notifications is not None:
            self._notifications.stop()
        self.hypervisor.close()
        self.images.close()
        self.journal.close()

    def _knock(self) -> None:
        """An answer that nobody asked for: this worker drops it."""
        with contextlib.suppress(errors.Error):
            self.coordinator.ports.peers.holding(self.settings.host, payloads.HoldingReport(
                host=self.settings.host, token="stop", instances=()))

    def _begun(self, instance: str, migration: str, destination: str) -> None:
        self.snapshots.begun(instance, migration, destination)

    def _on_event(self, instance: str, what: str) -> None:
        LOG.debug("[instance: %s] libvirt: %s", instance, what)
        self.coordinator.wake_instance(instance)

    def _warm_up(self) -> None:
        """Open the connections that the first migration would wait for."""
        self.peer_server.wait_started(threading.TIMEOUT_MAX)
        for connect in (lambda: self.coordinator.ports.peers.describe(self.settings.host),
                        self.images.own_addresses):
            try:
                connect()
            except errors.Error as e:
                LOG.warning("%s", e.sentence)
        threading.Thread(target=self._have_capabilities_probed, daemon=True).start()

    def _have_capabilities_probed(self) -> None:
        """libvirt takes seconds over them once after its start, an operator would wait."""
        with contextlib.suppress(errors.Error):
            self.hypervisor.versions()

    def _audit_all(self) -> None:
        self._warmer.join()  # the first time, until all connections are there
        self.audit.run(act=not self._janitor.doubt)


def _records(settings: conf.Settings) -> records.Records:
    api = nova_api.NovaApi(settings.nova_api) if settings.nova_api else None
    return records.Records(api, settings)


def _tap_options(settings: conf.Settings) -> tap.TapOptions:
    return tap.TapOptions(
        prefetch=settings.tap_prefetch, queue_expires=settings.tap_queue_expires,
        message_ttl=settings.tap_message_ttl, max_length=settings.tap_max_length,
        probe_interval=settings.tap_probe_interval)


def raise_descriptor_limit() -> None:
    """Every open migration holds its files by descriptors: take what the system grants."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
