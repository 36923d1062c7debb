# SPDX-License-Identifier: Apache-2.0
"""What one host is, to be compared with another.

Each gatherer gives some of the fields of ``rpcapi.preflight.Traits``; what it
cannot ask stays empty, and the comparison says that it is not known.
"""

import concurrent.futures
import logging
import time
import typing as ty

import rpcapi
from rbd_worker import errors
from rbd_worker.host import inspection, libvirt_conf, listener, probe
from rbd_worker.model import Verdict
from rbd_worker.preflight import ceph_traits
from rbd_worker.preflight.bench import Bench
from rbd_worker.version import VERSION
from rpcapi import preflight as contract

LOG = logging.getLogger(__name__)

#: Stands for a guest where no particular one is meant; Nova gives it to none.
NOBODY = "00000000-0000-0000-0000-000000000000"

Fields: ty.TypeAlias = dict[str, ty.Any]
Gatherer: ty.TypeAlias = ty.Callable[[Bench, contract.SurveyRequest], Fields]


def _settings(bench: Bench, _request: contract.SurveyRequest) -> Fields:
    settings = bench.settings
    return {"worker_version": VERSION, "rpc_version": rpcapi.VERSION,
            "executor": settings.executor.value, "images_type": bench.images_type,
            "ceph_user": settings.ceph.user, "secret_uuid": settings.ceph.secret_uuid,
            "instances_path": settings.instances_path, "vnc_listen": settings.vnc_listen,
            "inbound_address": settings.libvirt.live_migration_inbound_addr or "",
            "migration_uri": settings.libvirt.live_migration_uri or "",
            "native_tls": settings.libvirt.live_migration_with_native_tls,
            "tunnelled": settings.libvirt.live_migration_tunnelled}


def _libvirt(bench: Bench, _request: contract.SurveyRequest) -> Fields:
    versions = bench.versions()
    return {"host_uuid": versions.host_uuid, "libvirt_version": versions.libvirt,
            "hypervisor_version": versions.hypervisor}


def _own_name(bench: Bench, _request: contract.SurveyRequest) -> Fields:
    return {"own_name": (libvirt_conf.read("qemu.conf") or {}).get("migration_host")
            or inspection.own_name(bench.hypervisor.connection)}


def _path(bench: Bench, request: contract.SurveyRequest) -> Fields:
    if request.probe is None:
        return {}
    instance = request.guest.instance if request.guest else NOBODY
    fact = probe.compare(bench.directories, instance, request.probe)
    return {"sees_nonce": {Verdict.YES: False, Verdict.NO: True}.get(fact.verdict)}


def _data_port(bench: Bench, request: contract.SurveyRequest) -> Fields:
    qemu = libvirt_conf.read("qemu.conf") or {}
    ports = libvirt_conf.data_ports(qemu)
    told = {"data_ports": f"{ports.start}-{ports.stop - 1}"}
    if not request.listens:
        return told
    # where QEMU would listen, as far as it is a plain address
    address = qemu.get("migration_address", "").strip("[]")
    return {**told, "data_port": listener.open_for_a_moment(address, ports=ports)}


GATHERERS: dict[str, Gatherer] = {"settings": _settings, "libvirt": _libvirt,
                                  "own name": _own_name, "path": _path, "data port": _data_port,
                                  "ceph": ceph_traits.gather, "key": ceph_traits.gather_key}


def together(bench: Bench, gathered: ty.Mapping[str, "concurrent.futures.Future[Fields]"],
             deadline: float) -> contract.Traits:
    """All fields that are there by ``deadline`` (monotonic seconds)."""
    known: Fields = {}
    for what, fields in gathered.items():
        try:
            known |= fields.result(max(0.0, deadline - time.monotonic()))
        except (errors.Error, TimeoutError) as e:
            LOG.debug("%s is not known for a survey: %s", what, e)
        except Exception:
            LOG.exception("%s could not be gathered in a way that is not foreseen", what)
    return contract.Traits(host=bench.settings.host, clock=time.time(), **known)
