# SPDX-License-Identifier: Apache-2.0
"""An audit of 10,000 instance directories of which one in a hundred is a suspect.

node1's libvirt knows 9,900 of the guests; the other hundred are defined on
node2, ten of them run there, and all have their RBD image, so that every
witness is asked for real.  Timed is the operator's call, from this process to
the answer.  How many questions went to all workers is counted on the broker.
"""

import contextlib
import time
import typing as ty
import uuid

import kombu
import libvirt
from oslo_config import cfg

import rpcapi
from devstack import lab as labs
from devstack.conductor import Conductor
from devstack.lab import ceph, guests
from rbd_worker.triggers import broker
from rpcapi import client as rpc_client
from rpcapi import payloads
from tests.benchmarks import measure
from tests.benchmarks.bench import Bench
from tests.benchmarks.results import Goal, Result, Table
from tests.functional.fleet import Fleet

if ty.TYPE_CHECKING:
    import oslo_messaging

ROUNDS = 7
DIRECTORIES, SUSPECTS, RUNNING = 10_000, 100, 10

_KNOWN_HERE = """\
<domain type='qemu'><name>{uuid}</name><uuid>{uuid}</uuid><memory unit='MiB'>64</memory>
<os><type arch='x86_64' machine='pc'>hvm</type></os></domain>"""
_SUSPECT = """\
<domain type='{kind}'><name>{uuid}</name><uuid>{uuid}</uuid><memory unit='MiB'>16</memory>
<os><type arch='x86_64' machine='pc'>hvm</type></os><devices>
<disk type='network' device='disk'><driver name='qemu' type='raw'/>
<auth username='{user}'><secret type='ceph' uuid='{secret}'/></auth>
<source protocol='rbd' name='vms/{uuid}_disk'><host name='{monitor}' port='{port}'/></source>
<target dev='vda' bus='virtio'/></disk><video><model type='none'/></video></devices></domain>"""


def run(bench: Bench) -> Result:
    lab = bench.lab
    with Conductor(lab.broker_url) as conductor, bench.progress("audit", ROUNDS + 3) as step:
        fleet = Fleet(lab, conductor)
        suspects = _suspects(lab)
        step()
        with _many_guests(lab, suspects):
            step()
            fleet.start(executor="nova", audit_interval=0, audit_min_age=0)
            step()
            try:
                series, fan_outs = _audited(lab, suspects, step)
            finally:
                for worker in fleet.workers.values():
                    worker.kill9()
    table = Table(f"an audit of {DIRECTORIES} directories, {SUSPECTS} suspects", "s", series)
    return Result("audit", [table], [
        Goal("seconds", series[0].median, 1.5),
        Goal("questions to all workers for each audit", fan_outs / ROUNDS, 1)])


def _audited(lab: labs.Lab, suspects: list[str], step: ty.Callable[[], None],
             ) -> tuple[list[measure.Series], int]:
    transport = transport_to(lab)
    client = rpc_client.Client(transport)
    client.describe("node1")  # the connection is there

    def once() -> float:
        began = time.perf_counter()
        reply = client.audit("node1", payloads.AuditRequest(act=False))
        took = time.perf_counter() - began
        verdicts = [finding.verdict for finding in reply.findings]
        assert reply.directories == DIRECTORIES, reply.directories
        assert {finding.instance for finding in reply.findings} == set(suspects)
        assert verdicts.count("leftover") == RUNNING, reply.findings[:2]
        return took

    try:
        with _fan_outs(lab) as counted:
            series = measure.alternate(ROUNDS, {"rbd-worker": once}, step)
            return series, counted()
    finally:
        transport.cleanup()


def transport_to(lab: labs.Lab) -> "oslo_messaging.Transport":
    conf = cfg.CONF  # oslo.messaging looks into no other
    broker.register(conf)
    conf([], default_config_files=[])
    conf.set_override("transport_url", lab.broker_url)
    return rpc_client.transport_for(conf)


@contextlib.contextmanager
def _fan_outs(lab: labs.Lab) -> ty.Iterator[ty.Callable[[], int]]:
    """How many messages went to all workers since the beginning of the block."""
    with kombu.Connection(lab.broker_url.replace("rabbit://", "pyamqp://", 1)) as connection:
        channel = connection.channel()
        queue = channel.queue_declare(exclusive=True).queue
        channel.queue_bind(queue, f"{rpcapi.TOPIC}_fanout", "")
        yield lambda: int(channel.queue_declare(queue, passive=True).message_count)


def _suspects(lab: labs.Lab) -> list[str]:
    """Guests of node2 with images there and directories on node1."""
    uuids = [str(uuid.uuid4()) for _ in range(SUSPECTS)]
    there = libvirt.open(lab.host("node2").libvirt_uri)
    with contextlib.closing(there):
        for number, one in enumerate(uuids):
            lab.rbd("create", "--size", "4M", f"vms/{one}_disk")
            domain = there.defineXML(_SUSPECT.format(
                kind=lab.virt_type, uuid=one, user=ceph.USER, secret=lab.secret_uuid,
                monitor=lab.ceph.monitor_address, port=ceph.PORT))
            if number < RUNNING:
                domain.create()
    return uuids


@contextlib.contextmanager
def _many_guests(lab: labs.Lab, suspects: list[str]) -> ty.Iterator[None]:
    """All directories on node1, and a definition in its libvirt for all but the suspects.

    The definitions are laid down while libvirtd is stopped: to define them one
    by one, and to forget them afterwards, would take minutes.
    """
    host = lab.host("node1")
    here = [str(uuid.uuid4()) for _ in range(DIRECTORIES - SUSPECTS)]
    for one in (*here, *suspects):
        directory = host.nova_instances / one
        directory.mkdir()
        (directory / "disk.info").write_text(f'{{"{guests.INSTANCES}/{one}/disk": "raw"}}')
        (directory / "console.log").touch()
    service = lab.libvirt(host)
    configs = host.root / "etc/libvirt/qemu"
    service.stop()
    configs.mkdir(mode=0o700, exist_ok=True)
    for one in here:
        (configs / f"{one}.xml").write_text(_KNOWN_HERE.format(uuid=one))
    try:
        service.start()
        yield
    finally:
        service.stop()
        for one in here:
            (configs / f"{one}.xml").unlink(missing_ok=True)
        service.start()
