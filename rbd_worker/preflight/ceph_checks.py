# SPDX-License-Identifier: Apache-2.0
"""Ceph as this host reaches it: the way there, who it logs in as, what it may do.

The worker's own client has been connected for long, so what it can do says
nothing of a QEMU that is about to start: user and secret each log in anew.
A guest's QEMU takes the key of libvirt's secret, not the keyring.
"""

import base64
import concurrent.futures
import json
import secrets
import socket
import struct
import typing as ty

from rbd_worker import errors
from rbd_worker.host import ceph_conf, rbd
from rbd_worker.preflight.bench import Bench, Check, Rows, Say
from rpcapi import preflight as contract

#: Seconds for one monitor's ports, and for one login (librados counts whole ones).  A lost
#: first packet is sent again after one; all of it has to end before the survey does.
MONITOR_SECONDS = 3.0
LOGIN_SECONDS = 2.0
#: Most monitors that are tried; no cluster has more.
_MONITORS = 16
#: A key in Ceph's own form begins with its type, two times and the length of the rest.
_KEY_HEAD = struct.Struct("<HIIH")
_CONF = "Put the cluster's ceph.conf there, readable by the worker and by QEMU"


def _conf(bench: Bench, _request: contract.SurveyRequest, say: Say) -> Rows:
    ceph = bench.settings.ceph
    try:
        monitors = ceph_conf.monitors(ceph.conf_path, ceph.user)
    except errors.CephUnavailable as e:
        yield say.failed(f"{ceph.conf_path}: {e.data['reason']}", _CONF)
        return
    if monitors:
        yield say.ok(f"{ceph.conf_path} names {len(monitors)} monitor(s)")
    else:
        yield say.warning(f"{ceph.conf_path} names no monitor that can be understood",
                          "Give mon_host in its section [global]; without it librados asks DNS")


def _monitors(bench: Bench, _request: contract.SurveyRequest, say: Say) -> Rows:
    """Each one, since a guest takes whichever answers, and the list lives in its XML for long."""
    ceph = bench.settings.ceph
    monitors = ceph_conf.monitors(ceph.conf_path, ceph.user)[:_MONITORS]
    if not monitors:
        yield say.unknown(f"{ceph.conf_path} names none", _CONF)
        return
    with concurrent.futures.ThreadPoolExecutor(len(monitors)) as pool:
        reasons = list(pool.map(_why_unreachable, monitors))
    lost = sum(1 for reason in reasons if reason)
    for monitor, reason in zip(monitors, reasons, strict=True):
        if not reason:
            yield say.ok(f"{monitor.host} answers")
            continue
        tell = say.failed if lost == len(monitors) else say.warning
        yield tell(f"{monitor.host}: {reason}", "Start that monitor, open its ports (3300, 6789) "
                   f"to this host, or take it out of {ceph.conf_path}")


def _why_unreachable(monitor: ceph_conf.Monitor) -> str:
    """Empty as soon as one of its ports takes a connection."""
    reasons = []
    ports = sorted(monitor.ports or ceph_conf.STANDARD_PORTS)
    for port in ports:
        try:
            socket.create_connection((monitor.host, port), MONITOR_SECONDS / len(ports)).close()
        except OSError as e:
            reasons.append(f"port {port}: {e}")
        else:
            return ""
    return ", ".join(reasons)


def _user(bench: Bench, _request: contract.SurveyRequest, say: Say) -> Rows:
    ceph = bench.settings.ceph
    try:
        fsid = rbd.log_in(ceph, LOGIN_SECONDS)
    except (errors.CephLoginRefused, errors.CephUnavailable) as e:
        yield say.failed(str(e), e.remedy.format(**e.data))
        return
    yield say.ok(f"client.{ceph.user} logs in with its keyring, to cluster {fsid}")


def _secret(bench: Bench, _request: contract.SurveyRequest, say: Say) -> Rows:
    """The secret is there, and the cluster accepts what it holds."""
    ceph = bench.settings.ceph
    if not ceph.secret_uuid:
        yield say.failed("[libvirt] rbd_secret_uuid is not set",
                         "Set it to the UUID of libvirt's secret with the key of "
                         f"client.{ceph.user}, the same on all hosts")
        return
    try:
        key = bench.secrets.lend(ceph.secret_uuid, _as_key)
        if key:
            rbd.log_in(ceph, LOGIN_SECONDS, key)
    except (errors.SecretUnusable, errors.CephLoginRefused) as e:
        yield say.failed(str(e), e.remedy.format(**e.data))
        return
    if key:
        yield say.ok(f"{ceph.secret_uuid} lets client.{ceph.user} in")
    else:
        yield say.failed(f"what {ceph.secret_uuid} holds is no key of Ceph's",
                         f"virsh secret-set-value {ceph.secret_uuid} --base64 with the output of "
                         f"'ceph auth get-key client.{ceph.user}'")


def _as_key(value: bytes) -> str:
    """As ceph.conf would have it; empty for no key: librados would print that to its log."""
    if len(value) < _KEY_HEAD.size:
        return ""
    length = _KEY_HEAD.unpack_from(value)[3]
    return base64.b64encode(value).decode() if length == len(value) - _KEY_HEAD.size else ""


def _pool(bench: Bench, _request: contract.SurveyRequest, say: Say) -> Rows:
    pool = bench.settings.ceph.pool
    number = bench.images.look(lambda cluster: cluster.pool_lookup(pool), "look up its pools")
    if number is None:
        yield say.failed(f"there is no pool {pool}", "Correct [libvirt] images_rbd_pool, or make "
                         "the pool: ceph osd pool create, rbd pool init")
    else:
        yield say.ok(f"{pool} has the number {number}")


def _caps(bench: Bench, _request: contract.SurveyRequest, say: Say) -> Rows:
    """Tried on names that do not exist: the OSD looks at capabilities first, then for the object.

    Reading is what witnesses need, writing what snapshots need.
    """
    pool = bench.settings.ceph.pool
    absent = f"rbd_header.rbd-worker-preflight-{secrets.token_hex(8)}"
    reads, writes = (_lacking(bench, pool, wish, tried) for wish, tried in (
        ("read", lambda ioctx: ioctx.stat(absent)),
        ("write", lambda ioctx: ioctx.remove_object(absent))))
    if reads is not None:
        yield say.failed(str(reads), reads.remedy.format(**reads.data))
    elif writes is not None:
        yield say.warning(f"{writes}; guests cannot write and snapshots cannot be made",
                          writes.remedy.format(**writes.data))
    else:
        yield say.ok(f"client.{bench.settings.ceph.user} may read and write in {pool}")


def _lacking(bench: Bench, pool: str, wish: str, tried: ty.Callable[[ty.Any], object],
             ) -> errors.CephForbids | None:
    def look(cluster: ty.Any) -> None:
        with cluster.open_ioctx(pool) as ioctx:
            try:
                tried(ioctx)
            except Exception as e:
                if type(e).__name__ != "ObjectNotFound":  # rados's, which has its home elsewhere
                    raise
    try:
        bench.images.look(look, f"{wish} in pool {pool}")
    except errors.CephForbids as e:
        return e
    return None


def _blocklist(bench: Bench, _request: contract.SurveyRequest, say: Say) -> Rows:
    """A blocklisted address cannot write; one earlier client of a host harms nobody else."""
    def look(cluster: ty.Any) -> tuple[int, bytes, str, frozenset[str]]:
        asked = json.dumps({"prefix": "osd blocklist ls", "format": "json"})
        status, answer, told = cluster.mon_command(asked, b"")
        return status, answer, told, rbd.clients_in([cluster.get_addrs()])
    status, answer, told, own = bench.images.look(look, "list blocklisted clients")
    if status:
        yield say.unknown(f"the monitor does not list them (error {-status}): {told}",
                          "Give the user mon 'profile rbd'; before Ceph 16 this has another name")
        return
    try:
        # some releases let a sentence for people follow the list
        listed, _ = json.JSONDecoder().raw_decode(answer.decode() or "[]")
        blocked = rbd.clients_in(entry["addr"] for entry in listed)
    except ValueError as e:
        yield say.unknown(f"the list cannot be read: {e}")
        return
    ours = {_ip(client) for client in own}
    hits = sorted(c for c in blocked if _ip(c) in ours and (c.endswith(":0/0") or c in own))
    if hits:
        yield say.failed(f"{', '.join(hits)} is blocklisted: no guest of this host can write",
                         f"Find out who did it, then: ceph osd blocklist rm {hits[0]}")
    else:
        yield say.ok(f"{', '.join(sorted(ours))} is not on the list of {len(blocked)} client(s)")


def _ip(client: str) -> str:
    (address,) = rbd.addresses_in(client)
    return address


CHECKS = (Check("ceph.conf", _conf), Check("ceph.monitors", _monitors),
          Check("ceph.user", _user), Check("ceph.secret", _secret), Check("ceph.pool", _pool),
          Check("ceph.caps", _caps), Check("ceph.blocklist", _blocklist))
