# SPDX-License-Identifier: Apache-2.0
"""Where RabbitMQ is and how to speak to it, as Nova's configuration says.

``transport_url`` and ``[oslo_messaging_rabbit]`` are read as oslo.messaging
reads them (options in the URL's query win over the file), and as its earlier
releases did (``former_rabbit``), so that the tap reaches the broker wherever
nova-compute does.  Passwords stay out of every representation and every error:
a URL that cannot be read is never quoted.
"""

import dataclasses
import ssl
import typing as ty
import urllib.parse

import oslo_messaging
from oslo_config import cfg
from oslo_messaging import opts as oslo_opts

from rbd_worker import errors
from rbd_worker.conf import former_rabbit, refuse_unfit

_GROUP = "oslo_messaging_rabbit"
_URL_OPTION = "[DEFAULT] transport_url"
_AMQP = frozenset({"rabbit", "kombu", "kombu+amqp", "kombu+pyamqp", "kombu+rabbit"})
#: In one process only: for the embedded demo and for tests.
_MEMORY = frozenset({"fake", "memory", "kombu+memory"})
_LOGIN_METHODS = frozenset({"AMQPLAIN", "PLAIN", "EXTERNAL"})
_TLS_VERSIONS = {"tlsv1": "PROTOCOL_TLSv1", "tlsv1_1": "PROTOCOL_TLSv1_1",
                 "tlsv1_2": "PROTOCOL_TLSv1_2", "sslv23": "PROTOCOL_TLS"}
#: What oslo.messaging itself takes where the URL names no port, with TLS or without.
_PORT = 5672


@dataclasses.dataclass(frozen=True)
class BrokerHost:
    hostname: str
    port: int
    username: str = dataclasses.field(default="guest", repr=False)
    password: str = dataclasses.field(default="guest", repr=False)

    def __str__(self) -> str:
        name = f"[{self.hostname}]" if ":" in self.hostname else self.hostname
        return f"{name}:{self.port}"


@dataclasses.dataclass(frozen=True)
class TlsSettings:
    """Files as in ``[oslo_messaging_rabbit]``; empty where not set.

    :ivar version: name of a protocol constant of :mod:`ssl`; empty for the
        best that both sides know.
    """

    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    version: str = ""

    def arguments(self, hostname: str) -> dict[str, ty.Any] | bool:
        """What kombu takes as ``ssl``.

        The broker's name is checked where a CA file is given, as by
        oslo.messaging: names in certificates of a system-wide authority need
        not match the addresses in ``transport_url``.
        """
        found: dict[str, ty.Any] = {}
        if self.version:
            found["ssl_version"] = getattr(ssl, self.version)
        if self.key_file:
            found["keyfile"] = self.key_file
        if self.cert_file:
            found["certfile"] = self.cert_file
        if self.ca_file:
            found |= {"ca_certs": self.ca_file, "cert_reqs": ssl.CERT_REQUIRED,
                      "server_hostname": hostname}
        return found or True


@dataclasses.dataclass(frozen=True)
class BrokerSettings:
    """Everything that a connection needs; times in seconds.

    :ivar hosts: at least one; tried in turn.
    :ivar heartbeat: 0 for none.
    :ivar retry_start, retry_step, retry_max: pause before a reconnect, what it
        grows by, and its upper bound.
    :ivar durable, quorum, auto_delete: how oslo.messaging declares Nova's
        queues and exchanges here.
    :ivar control_exchange: the exchange that Nova publishes its casts to.
    """

    hosts: tuple[BrokerHost, ...]
    virtual_host: str = "/"
    tls: TlsSettings | None = None
    is_memory: bool = False
    login_method: str = "AMQPLAIN"
    heartbeat: int = 60
    retry_start: float = 1.0
    retry_step: float = 2.0
    retry_max: float = 30.0
    durable: bool = False
    quorum: bool = False
    auto_delete: bool = False
    control_exchange: str = "nova"

    @property
    def url(self) -> str:
        """For people: no user and no password in it."""
        if self.is_memory:
            return "memory://"
        hosts = ",".join(str(host) for host in self.hosts)
        return f"rabbit://{hosts}/{urllib.parse.quote(self.virtual_host, safe='')}"


def register(conf: cfg.ConfigOpts) -> None:
    """Register oslo.messaging's options, with the exchange that Nova sets in its code."""
    for group, opts in oslo_opts.list_opts():
        if group in (None, _GROUP):
            conf.register_opts(opts, group)
    conf.register_opts(former_rabbit.OPTS, _GROUP)
    conf.set_default("control_exchange", "nova")


def from_conf(conf: cfg.ConfigOpts) -> BrokerSettings:
    """Read the broker's settings from a parsed configuration.

    :raises errors.BadConfiguration: naming the option, without its value where
        that may hold a password.
    """
    register(conf)
    refuse_unfit(conf, _GROUP, [*_options(_GROUP), *former_rabbit.OPTS])
    url = _parsed_url(conf)
    refuse_unfit(conf, "", [opt for opt in _options(None) if opt.dest != "transport_url"])
    options = _Options(conf, url.query)
    is_memory = url.transport in _MEMORY
    if not is_memory and url.transport not in _AMQP:
        raise errors.BadConfiguration(
            option=_URL_OPTION, reason=f"the transport {url.transport} is not RabbitMQ",
            fix="rbd-worker hears Nova's casts over RabbitMQ only (rabbit://)")
    return BrokerSettings(
        hosts=_hosts(url), virtual_host=url.virtual_host or "/", is_memory=is_memory,
        tls=None if is_memory else _tls(options), login_method=_login_method(options),
        heartbeat=options.value("heartbeat_timeout_threshold"),
        retry_start=options.value("rabbit_retry_interval"),
        retry_step=options.value("rabbit_retry_backoff"),
        retry_max=options.value("rabbit_interval_max"),
        durable=options.value("amqp_durable_queues") or options.value("rabbit_quorum_queue"),
        quorum=options.value("rabbit_quorum_queue"),
        auto_delete=options.value("amqp_auto_delete"),
        control_exchange=conf.control_exchange)


def _options(group: str | None) -> list[cfg.Opt]:
    """oslo.messaging's; None for those in DEFAULT."""
    return [opt for name, opts in oslo_opts.list_opts() if name == group for opt in opts]


class _Options:
    """``[oslo_messaging_rabbit]``, each option overridable in the URL's query."""

    def __init__(self, conf: cfg.ConfigOpts, query: dict[str, str]) -> None:
        self._group = conf[_GROUP]
        self._query = query
        self._types = {opt.dest: opt.type for opt in _options(_GROUP)}

    def value(self, name: str) -> ty.Any:
        if name not in self._query:
            return getattr(self._group, name)
        try:
            return self._types[name](self._query[name])
        except ValueError:
            raise errors.BadConfiguration(
                option=_URL_OPTION, reason=f"{name} in its query has a value that cannot be read",
                fix=f"Correct it, or set [{_GROUP}] {name} instead") from None


def _parsed_url(conf: cfg.ConfigOpts) -> oslo_messaging.TransportURL:
    try:
        former_rabbit.adopt(conf)
        raw = str(conf.transport_url)
        url = oslo_messaging.TransportURL.parse(conf)
        is_readable = not _is_torn(raw)
    except (cfg.Error, ValueError, oslo_messaging.InvalidTransportURL):
        is_readable = False
    if not is_readable:
        raise errors.BadConfiguration(
            option=_URL_OPTION, reason="it cannot be read",
            fix="Write it as rabbit://USER:PASSWORD@HOST:5672/VHOST and percent-encode the "
                "characters / ? # @ : [ ] $ in user, password and vhost") from None
    return url


def _is_torn(raw: str) -> bool:
    """True where an unescaped ``/``, ``?`` or ``#`` has cut a password in two.

    What stands behind the cut would be taken for the virtual host, and shown;
    so an ``@`` there is refused, although a virtual host's name may have one.
    """
    parts = urllib.parse.urlsplit(raw)
    return bool(parts.fragment) or "@" in parts.path or "@" in parts.query


def _hosts(url: oslo_messaging.TransportURL) -> tuple[BrokerHost, ...]:
    if not url.hosts:
        return (BrokerHost("localhost", _PORT),)
    return tuple(BrokerHost(host.hostname or "localhost", host.port or _PORT,
                            host.username or "guest", host.password or "guest")
                 for host in url.hosts)


def _tls(options: _Options) -> TlsSettings | None:
    if not options.value("ssl"):
        return None
    name = options.value("ssl_version")
    version = _TLS_VERSIONS.get(name.lower(), "") if name else ""
    if name and not hasattr(ssl, version):
        raise errors.BadConfiguration(
            option=f"[{_GROUP}] ssl_version", reason=f"{name!r} is not known here",
            fix="Leave it empty: the best version that both sides know is taken")
    tls = TlsSettings(
        ca_file=options.value("ssl_ca_file"), cert_file=options.value("ssl_cert_file"),
        key_file=options.value("ssl_key_file"), version=version)
    for option, path in (("ssl_ca_file", tls.ca_file), ("ssl_cert_file", tls.cert_file),
                         ("ssl_key_file", tls.key_file)):
        if path:
            _check_readable(option, path)
    return tls


def _check_readable(option: str, path: str) -> None:
    """A missing file would else show as an obscure TLS error on every attempt."""
    try:
        with open(path, "rb"):
            pass
    except OSError as e:
        raise errors.BadConfiguration(
            option=f"[{_GROUP}] {option}", reason=f"{path}: {e.strerror}",
            fix="Give a file that the worker's user may read") from e


def _login_method(options: _Options) -> str:
    method = str(options.value("rabbit_login_method"))
    if method not in _LOGIN_METHODS:
        raise errors.BadConfiguration(
            option=f"[{_GROUP}] rabbit_login_method", reason=f"{method} is not supported",
            fix="Use AMQPLAIN, PLAIN or EXTERNAL")
    return method
