# SPDX-License-Identifier: Apache-2.0
"""How the worker may ask nova-api, where the operator gives credentials for it.

Either a cloud of clouds.yaml (``os_cloud``), or a section of nova.conf with
keystoneauth's own option names (``os_auth_section``), as nova-compute has them
in ``[service_user]``, ``[placement]`` and ``[neutron]``.  keystoneauth itself
is not imported here: its plug-ins check the values when they are first used.
"""

import dataclasses
import typing as ty

from oslo_config import cfg

from rbd_worker import errors

#: keystoneauth's names for what its plug-ins for version 3 take.
_AUTH_OPTS = [
    cfg.StrOpt("auth_url"),
    cfg.StrOpt("username", deprecated_name="user_name"),
    cfg.StrOpt("user_id"),
    cfg.StrOpt("password", secret=True),
    cfg.StrOpt("user_domain_id"),
    cfg.StrOpt("user_domain_name"),
    cfg.StrOpt("project_id", deprecated_name="tenant_id"),
    cfg.StrOpt("project_name", deprecated_name="tenant_name"),
    cfg.StrOpt("project_domain_id"),
    cfg.StrOpt("project_domain_name"),
    cfg.StrOpt("system_scope"),
    cfg.StrOpt("application_credential_id"),
    cfg.StrOpt("application_credential_name"),
    cfg.StrOpt("application_credential_secret", secret=True),
]
_SESSION_OPTS = [
    cfg.StrOpt("auth_section"),
    cfg.StrOpt("auth_type", deprecated_name="auth_plugin"),
    cfg.StrOpt("region_name"),
    cfg.ListOpt("valid_interfaces", default=["internal", "public"]),
    cfg.StrOpt("cafile"),
    cfg.StrOpt("certfile"),
    cfg.StrOpt("keyfile"),
    cfg.BoolOpt("insecure", default=False),
]


@dataclasses.dataclass(frozen=True)
class NovaApiSettings:
    """Where and as whom nova-api is asked.

    :ivar origin: where the credentials come from, for people.
    :ivar cloud: name in clouds.yaml; None where the other values count.
    :ivar auth: keystoneauth's values of a plug-in; never shown.
    :ivar interfaces: of the endpoint, the first that the catalogue has.
    :ivar timeout: seconds that one look may take, however many requests it needs.
    """

    timeout: float
    origin: str
    cloud: str | None = None
    auth_type: str = "password"
    auth: ty.Mapping[str, str] = dataclasses.field(default_factory=dict, repr=False)
    region: str | None = None
    interfaces: tuple[str, ...] = ()
    cafile: str | None = None
    certfile: str | None = None
    keyfile: str | None = None
    insecure: bool = False


def nova_api(conf: cfg.ConfigOpts) -> NovaApiSettings | None:
    """The credentials that were given; None where there are none, which is the default.

    :raises errors.BadConfiguration: both kinds are given, or the section lacks what it needs.
    """
    own = conf.rbd_worker
    if own.os_cloud and own.os_auth_section:
        raise errors.BadConfiguration(
            option="[rbd_worker] os_cloud", reason="it contradicts os_auth_section",
            fix="Keep the one whose credentials may see the servers of all projects")
    if own.os_cloud:
        return NovaApiSettings(timeout=own.os_timeout, cloud=own.os_cloud,
                               origin=f"cloud {own.os_cloud} of clouds.yaml")
    if own.os_auth_section:
        return _of_section(conf, own.os_auth_section)
    return None


def _of_section(conf: cfg.ConfigOpts, section: str) -> NovaApiSettings:
    values = _values(conf, section)
    if values.auth_section:  # keystoneauth's way to share one section among several
        section = values.auth_section
        values = _values(conf, section)
    auth = {opt.dest: values[opt.dest] for opt in _AUTH_OPTS if values[opt.dest] is not None}
    if "auth_url" not in auth:
        raise errors.BadConfiguration(
            option="[rbd_worker] os_auth_section",
            reason=f"section [{section}] has no auth_url",
            fix="Name a section of nova.conf with keystone credentials, as service_user")
    return NovaApiSettings(
        timeout=conf.rbd_worker.os_timeout, origin=f"section [{section}] of nova.conf",
        auth_type=values.auth_type or "password", auth=auth,
        region=values.region_name, interfaces=tuple(values.valid_interfaces), cafile=values.cafile,
        certfile=values.certfile, keyfile=values.keyfile, insecure=values.insecure)


def _values(conf: cfg.ConfigOpts, section: str) -> ty.Any:
    conf.register_opts([*_AUTH_OPTS, *_SESSION_OPTS], section)
    return conf[section]
