# SPDX-License-Identifier: Apache-2.0
"""Parsed options, checked and turned into the values that the rest of the code gets.

What is unknown, unfit or contradictory is refused with the option's name and
the remedy; the units are in the names.
"""

import dataclasses
import difflib
import glob
import ipaddress
import itertools
import pathlib
import typing as ty

from oslo_config import cfg

from rbd_worker import errors, model
from rbd_worker.conf import credentials
from rbd_worker.conf.options import (
    NOVA_LIBVIRT_OPTS,
    NOVA_OPTS,
    NOVA_VNC_OPTS,
    WORKER_OPTS,
)


@dataclasses.dataclass(frozen=True)
class LibvirtSettings:
    """``[libvirt]`` of nova.conf as far as a move needs it; units as Nova's."""

    uri: str
    virt_type: str
    live_migration_uri: str | None
    live_migration_scheme: str | None
    live_migration_inbound_addr: str | None
    live_migration_flag: str | None
    live_migration_bandwidth: int
    live_migration_tunnelled: bool
    live_migration_with_native_tls: bool
    live_migration_permit_post_copy: bool
    live_migration_permit_auto_converge: bool
    live_migration_completion_timeout: int
    live_migration_timeout_action: str
    live_migration_downtime: int
    live_migration_downtime_steps: int
    live_migration_downtime_delay: int


@dataclasses.dataclass(frozen=True)
class CephSettings:
    """How this host's Ceph client is set up.

    :ivar pool: where Nova keeps the disks of its guests.
    """

    conf_path: str
    user: str
    secret_uuid: str
    pool: str = "rbd"


@dataclasses.dataclass(frozen=True)
class Settings:
    """All values the worker runs with; times in seconds, sizes in bytes."""

    host: str
    executor: model.Executor
    is_idle: bool
    instances_path: str
    state_directory: str
    live_migration_retry_count: int
    max_concurrent_live_migrations: int
    vnc_listen: str
    libvirt: LibvirtSettings
    ceph: CephSettings
    max_files: int
    max_depth: int
    max_data_bytes: int
    max_file_bytes: int
    inline_bytes: int
    console_history_files: int
    console_history_bytes: int
    trash_retention: int
    trash_max_percent: int
    audit_acts: bool
    audit_interval: int
    audit_min_age: int
    audit_pause: int
    nova_cleanup_grace: int
    settle_interval: int
    unresolved_retry_max: int
    prepare_timeout: int
    workers: int
    libvirt_timeout: float
    ceph_timeout: float
    tap_prefetch: int
    tap_queue_expires: int
    tap_message_ttl: int
    tap_max_length: int
    tap_probe_interval: int
    hook_socket: str
    hook_timeout: float
    hook_actions: frozenset[str]
    snapshot_before_migration: bool
    snapshot_freeze_limit: float
    rpc_version_cap: str | None
    metrics_listen: tuple[str, int] | None
    nova_api: credentials.NovaApiSettings | None


_MAX_SOCKET_PATH = 100

#: Nova's default URIs by virt_type (``libvirt.connection_uri`` unset).
_DEFAULT_URIS = {"kvm": "qemu:///system", "qemu": "qemu:///system", "test": "test:///default"}


def settings(conf: cfg.ConfigOpts) -> Settings:
    """Turn a parsed configuration into checked values.

    :raises errors.BadConfiguration: naming the option and what to do.
    """
    _refuse_unknown_names(conf)
    _refuse_unfit_values(conf)
    own = conf.rbd_worker
    try:
        host = model.host_name(conf.host)
    except errors.BadHostName as e:
        raise errors.BadConfiguration(
            option="[DEFAULT] host", reason=str(e),
            fix="Give the name that nova-compute uses on this host") from e
    return Settings(
        host=host,
        executor=model.Executor(own.executor),
        is_idle=conf.libvirt.images_type != "rbd",
        instances_path=_absolute("[DEFAULT] instances_path", conf.instances_path),
        state_directory=_absolute("[rbd_worker] state_directory", own.state_directory),
        live_migration_retry_count=conf.live_migration_retry_count,
        max_concurrent_live_migrations=conf.max_concurrent_live_migrations,
        vnc_listen=conf.vnc.server_listen, libvirt=_libvirt(conf), ceph=_ceph(conf),
        max_files=own.max_files, max_depth=own.max_depth,
        max_data_bytes=own.max_data_gib << 30, max_file_bytes=own.max_file_gib << 30,
        inline_bytes=own.inline_kib << 10,
        console_history_files=own.console_history_files,
        console_history_bytes=own.console_history_mib << 20,
        trash_retention=own.trash_retention, trash_max_percent=own.trash_max_percent,
        audit_acts=own.audit_action == "trash", audit_interval=own.audit_interval,
        audit_min_age=own.audit_min_age, audit_pause=own.audit_pause,
        nova_cleanup_grace=own.nova_cleanup_grace,
        settle_interval=own.settle_interval, unresolved_retry_max=own.unresolved_retry_max,
        prepare_timeout=own.prepare_timeout, workers=own.workers,
        libvirt_timeout=own.libvirt_timeout, ceph_timeout=own.ceph_timeout,
        tap_prefetch=own.tap_prefetch, tap_queue_expires=own.tap_queue_expires,
        tap_message_ttl=own.tap_message_ttl, tap_max_length=own.tap_max_length,
        tap_probe_interval=own.tap_probe_interval,
        hook_socket=_socket_path("[rbd_worker] hook_socket", own.hook_socket),
        hook_timeout=own.hook_timeout, hook_actions=frozenset(own.hook_actions),
        snapshot_before_migration=own.snapshot_before_migration,
        snapshot_freeze_limit=own.snapshot_freeze_limit,
        rpc_version_cap=own.rpc_version_cap,
        metrics_listen=_listen("[rbd_worker] metrics_listen", own.metrics_listen),
        nova_api=credentials.nova_api(conf))


def _libvirt(conf: cfg.ConfigOpts) -> LibvirtSettings:
    group = conf.libvirt
    uri = group.connection_uri or _DEFAULT_URIS.get(group.virt_type)
    if uri is None:
        raise errors.BadConfiguration(
            option="[libvirt] virt_type", reason=f"{group.virt_type!r} is not handled",
            fix="rbd-worker handles kvm and qemu; set [libvirt] connection_uri for others")
    if group.live_migration_uri and group.live_migration_uri.count("%s") != 1:
        raise errors.BadConfiguration(
            option="[libvirt] live_migration_uri",
            reason=f"{group.live_migration_uri!r} needs exactly one %s for the host",
            fix="Write it as qemu+tls://%s/system")
    if group.live_migration_tunnelled and group.live_migration_with_native_tls:
        raise errors.BadConfiguration(
            option="[libvirt] live_migration_tunnelled",
            reason="it contradicts live_migration_with_native_tls",
            fix="Switch one of them off; native TLS is the newer one")
    names = [f.name for f in dataclasses.fields(LibvirtSettings) if f.name != "uri"]
    return LibvirtSettings(uri=uri, **{name: getattr(group, name) for name in names})


def _ceph(conf: cfg.ConfigOpts) -> CephSettings:
    group = conf.libvirt
    if group.images_type == "rbd" and not group.rbd_user:
        raise errors.BadConfiguration(
            option="[libvirt] rbd_user", reason="it is not set although images_type is rbd",
            fix="Set it to the Ceph client that nova-compute uses, without 'client.'")
    return CephSettings(conf_path=group.images_rbd_ceph_conf or "/etc/ceph/ceph.conf",
                        user=group.rbd_user or "", secret_uuid=group.rbd_secret_uuid or "",
                        pool=group.images_rbd_pool)


def _absolute(option: str, value: str) -> str:
    if not pathlib.PurePath(value).is_absolute():
        raise errors.BadConfiguration(option=option, reason=f"{value!r} is not an absolute path",
                                      fix="Give a path that begins with /")
    return value


def _socket_path(option: str, value: str) -> str:
    """The kernel's limit is 107 bytes; the worker binds under a name a little longer."""
    if len(_absolute(option, value).encode()) > _MAX_SOCKET_PATH:
        raise errors.BadConfiguration(
            option=option, reason=f"{value!r} is longer than {_MAX_SOCKET_PATH} bytes",
            fix="Give a shorter path, as /run/rbd-worker/hook.sock")
    return value


def _listen(option: str, value: str) -> tuple[str, int] | None:
    """Address and port, with an IPv6 address in brackets; None where it is empty."""
    if not value:
        return None
    address, _, port = value.rpartition(":")
    try:
        number = int(port) if port.isascii() and port.isdecimal() else -1
        ipaddress.ip_address(address[1:-1] if address.startswith("[") else address)
        if not 0 < number < 65536 or (":" in address) != (address[:1] + address[-1:] == "[]"):
            raise ValueError
    except ValueError:
        raise errors.BadConfiguration(
            option=option, reason=f"{value!r} is not an IP address and a port",
            fix="Write it as 127.0.0.1:9642 or [::1]:9642, or empty for none") from None
    return address.strip("[]"), number


def _refuse_unfit_values(conf: cfg.ConfigOpts) -> None:
    """oslo.config looks at a file's value only when it is read: read them all here."""
    groups: dict[str, ty.Sequence[cfg.Opt]] = {
        "": NOVA_OPTS, "libvirt": NOVA_LIBVIRT_OPTS, "vnc": NOVA_VNC_OPTS,
        "rbd_worker": WORKER_OPTS}
    for group, options in groups.items():
        refuse_unfit(conf, group, options)


def refuse_unfit(conf: cfg.ConfigOpts, group: str, options: ty.Iterable[cfg.Opt]) -> None:
    """Read each of a group's options; the group DEFAULT is called ``""``.

    :raises errors.BadConfiguration: naming the first whose value is of another type.
    """
    values = conf[group] if group else conf
    for option in options:
        try:
            values[option.dest]
        except (cfg.ConfigFileValueError, cfg.TemplateSubstitutionError, cfg.NoSuchOptError) as e:
            told = e.__context__ if isinstance(e, cfg.NoSuchOptError) else e
            raise errors.BadConfiguration(
                option=f"[{group or 'DEFAULT'}] {option.name}",
                reason=str(told).rpartition("is not valid: ")[2],
                fix=f"Correct it, or remove it for the default ({option.default})") from e


def _refuse_unknown_names(conf: cfg.ConfigOpts) -> None:
    """A misspelt option in [rbd_worker] would silently be its default."""
    known = {opt.dest for opt in WORKER_OPTS}
    directories = (sorted(glob.glob(f"{place}/*.conf")) for place in conf.config_dir or ())
    for path in itertools.chain(conf.config_file or (), *directories):
        sections: dict[str, dict[str, ty.Any]] = {}
        cfg.ConfigParser(path, sections).parse()
        for name in sections.get("rbd_worker", {}):
            if name.replace("-", "_") not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f"Did you mean {near[0]}?" if near else "Remove it"
                raise errors.BadConfiguration(
                    option=f"[rbd_worker] {name}", reason=f"no such option ({path})", fix=hint)
