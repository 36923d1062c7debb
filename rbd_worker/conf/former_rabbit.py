# SPDX-License-Identifier: Apache-2.0
"""RabbitMQ's options under the names that nova.conf had for them in earlier releases.

nova-compute runs with the oslo.messaging of its release, the worker with a new one, which
has forgotten them: the address in parts with 9.0 (Stein), the names with ``kombu_ssl_`` with
16.0 (2025.1).  Each stood in ``[DEFAULT]`` before Kilo.  What has the present name wins.
"""

import typing as ty
import urllib.parse

from oslo_config import cfg
from oslo_utils import netutils

_GROUP = "oslo_messaging_rabbit"

#: Of TLS, and what they are called now.
_RENAMED: dict[cfg.Opt, str] = {
    cfg.BoolOpt("rabbit_use_ssl", deprecated_group="DEFAULT"): "ssl",
    cfg.StrOpt("kombu_ssl_version", deprecated_group="DEFAULT"): "ssl_version",
    cfg.StrOpt("kombu_ssl_keyfile", deprecated_group="DEFAULT"): "ssl_key_file",
    cfg.StrOpt("kombu_ssl_certfile", deprecated_group="DEFAULT"): "ssl_cert_file",
    cfg.StrOpt("kombu_ssl_ca_certs", deprecated_group="DEFAULT"): "ssl_ca_file",
}
#: What ``transport_url`` was before.
_ADDRESS = [
    cfg.StrOpt("rabbit_host", deprecated_group="DEFAULT", default="localhost"),
    cfg.PortOpt("rabbit_port", deprecated_group="DEFAULT", default=5672),
    cfg.ListOpt("rabbit_hosts", deprecated_group="DEFAULT", default=[]),
    cfg.StrOpt("rabbit_userid", deprecated_group="DEFAULT", default="guest"),
    cfg.StrOpt("rabbit_password", deprecated_group="DEFAULT", default="guest", secret=True),
    cfg.StrOpt("rabbit_virtual_host", deprecated_group="DEFAULT", default="/"),
]
OPTS: ty.Final = [*_RENAMED, *_ADDRESS]


def adopt(conf: cfg.ConfigOpts) -> None:
    """Have the present options say what the former ones say; all are registered.

    :raises ValueError: a host has a port that is no number.
    """
    for former, present in _RENAMED.items():
        if _is_set(conf, former.dest, _GROUP) and not _is_set(conf, present, _GROUP):
            conf.set_override(present, conf[_GROUP][former.dest], _GROUP)
    if not _is_set(conf, "transport_url") and any(
            _is_set(conf, each.dest, _GROUP) for each in _ADDRESS):
        conf.set_override("transport_url", _url(conf[_GROUP]))


def _is_set(conf: cfg.ConfigOpts, name: str, group: str | None = None) -> bool:
    place = conf.get_location(name, group)
    return place is not None and bool(place.location.is_user_controlled)


def _url(group: cfg.ConfigOpts.GroupAttr) -> str:
    account = ":".join(urllib.parse.quote(part, safe="")
                       for part in (group.rabbit_userid, group.rabbit_password))
    hosts = group.rabbit_hosts or [netutils.escape_ipv6(group.rabbit_host)]
    pairs = [netutils.parse_host_port(each, group.rabbit_port) for each in hosts]
    places = ",".join(f"{account}@{netutils.escape_ipv6(host)}:{port}" for host, port in pairs)
    return f"rabbit://{places}/{urllib.parse.quote(group.rabbit_virtual_host, safe='')}"
