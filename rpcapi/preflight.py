# SPDX-License-Identifier: Apache-2.0
"""Would a guest get from one host to another?  Calls and payloads. Since 1.1.

An operator asks the worker of the source (``preflight``).  That one asks the
destination for its survey (``survey``), takes its own, tries the ways between
the two, and answers with rows.  For the matrix of all hosts one worker sends
``survey_all`` to all and gets two ``surveyed`` from each, at once without a
survey and later with it; then it has each try the way to one other
(``try_routes``, ``routes_tried``).
"""

import typing as ty

import msgspec

from rpcapi import client as clients
from rpcapi.fields import HostName, InstanceUUID, MigrationKey, Moment, Payload, Size, Text
from rpcapi.payloads.files import PathProbe

#: Seconds that the survey of one host may take, and one whole preflight.
SURVEY_SECONDS = 10
PREFLIGHT_SECONDS = 30

State = ty.Literal["ok", "warning", "failed", "unknown"]
#: What a row is about, as ``ceph.secret``; the manual has a paragraph for each.
RowName = ty.Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9.-]{0,63}\Z")]
#: 32 hexadecimal digits from the asker: what is only ever compared is keyed by it.
Salt = ty.Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}\Z")]
Xml = ty.Annotated[str, msgspec.Meta(max_length=1 << 18)]
Texts = ty.Annotated[tuple[Text, ...], msgspec.Meta(max_length=256)]


class Row(Payload, frozen=True, kw_only=True):
    """One thing that was looked at.

    :ivar host: where it was measured; of a comparison, the source.
    :ivar state: ``unknown`` is what could not be measured, never ``ok``.
    :ivar found: what was measured, or why it could not be.
    :ivar remedy: what to do; empty where nothing is to be done.
    """

    name: RowName
    host: HostName
    state: State
    found: Text
    remedy: Text = ""


Rows = ty.Annotated[tuple[Row, ...], msgspec.Meta(max_length=512)]


class Guest(Payload, frozen=True, kw_only=True):
    """What the destination has to know of a guest in order to say whether it can take it.

    :ivar images: the RBD images of its disks, as ``pool/image``.
    :ivar cpu: the ``<cpu>`` element of its running XML, of its host where it has
        host-passthrough; empty where it has none.
    :ivar cpu_is_host: that is the host's.
    :ivar is_kvm: it runs with KVM, so that its CPU matters.
    :ivar bridges: host bridges that its interfaces are plugged into.
    :ivar networks: libvirt's own networks that they are in.
    :ivar graphics: IP addresses that its VNC and SPICE servers listen on.
    :ivar machine: the machine type, as ``pc-q35-7.2``.
    :ivar architecture: as ``x86_64``.
    :ivar memory: bytes that it may have at most.
    :ivar huge_pages: bytes of one of the huge pages it is made of; 0 for plain memory.
    :ivar local_paths: files and devices outside its directory that it has open.
    """

    instance: InstanceUUID
    images: Texts = ()
    cpu: Xml = ""
    cpu_is_host: bool = False
    is_kvm: bool = False
    bridges: Texts = ()
    networks: Texts = ()
    graphics: Texts = ()
    machine: Text = ""
    architecture: Text = ""
    memory: Size = 0
    huge_pages: Size = 0
    local_paths: Texts = ()


class Traits(Payload, frozen=True, kw_only=True):
    """Of one host, what is compared with another's.  An empty field is not known.

    :ivar clock: seconds since the epoch, as the answer was made.
    :ivar libvirt_version, hypervisor_version: as libvirt counts them (major * 1,000,000 ...).
    :ivar key_digest: HMAC of the Ceph key with the asker's salt; never the key.
    :ivar pool_id: Ceph's number of the pool that instances are in; -1 for unknown.
    :ivar sees_nonce: the asker's nonce file is visible here: a shared path; None for not known.
    :ivar data_port: a port of libvirt's range on which this host listens for a
        few seconds so that the asker can try the way; 0 for none.
    :ivar data_ports: that range, as ``49152-49215``.
    :ivar own_name: what libvirt there takes for that host's name.
    :ivar native_tls, tunnelled: ``live_migration_with_native_tls`` and
        ``live_migration_tunnelled``; None for not known.
    """

    host: HostName
    clock: Moment = 0
    worker_version: Text = ""
    rpc_version: Text = ""
    executor: Text = ""
    host_uuid: Text = ""
    libvirt_version: int = 0
    hypervisor_version: int = 0
    images_type: Text = ""
    pool: Text = ""
    pool_id: int = -1
    fsid: Text = ""
    ceph_user: Text = ""
    secret_uuid: Text = ""
    key_digest: Text = ""
    instances_path: Text = ""
    sees_nonce: bool | None = None
    vnc_listen: Text = ""
    inbound_address: Text = ""
    migration_uri: Text = ""
    data_port: ty.Annotated[int, msgspec.Meta(ge=0, le=65535)] = 0
    data_ports: Text = ""
    own_name: Text = ""
    native_tls: bool | None = None
    tunnelled: bool | None = None


class SurveyRequest(Payload, frozen=True, kw_only=True):
    """Look at yourself.

    :ivar guest: one that is to come; None for no particular one.
    :ivar probe: a nonce of the asker, to tell a shared path.
    :ivar listens: open a data port for the asker to try.
    :ivar found_at: IP addresses that the asker finds under this host's name.
    """

    asker: HostName
    salt: Salt
    guest: Guest | None = None
    probe: PathProbe | None = None
    listens: bool = False
    found_at: Texts = ()


class Survey(Payload, frozen=True, kw_only=True):
    traits: Traits
    rows: Rows = ()


class PreflightRequest(Payload, frozen=True, kw_only=True):
    """:ivar instance: a guest of the host that is asked; None for no particular one."""

    destination: HostName
    instance: InstanceUUID | None = None


class PreflightReply(Payload, frozen=True, kw_only=True):
    rows: Rows


class SurveyAllRequest(Payload, frozen=True, kw_only=True):
    """To all workers; each sends ``surveyed`` to the asker.

    :ivar token: names this round of asking.
    """

    asker: HostName
    token: MigrationKey
    salt: Salt


class Surveyed(Payload, frozen=True, kw_only=True):
    """:ivar survey: None right after the question was heard, so that the asker knows whom to
        wait for.
    """

    token: MigrationKey
    host: HostName
    survey: Survey | None = None


class TryRoutesRequest(Payload, frozen=True, kw_only=True):
    """Try the way to the host whose traits these are; send ``routes_tried`` to the asker."""

    asker: HostName
    token: MigrationKey
    traits: Traits


class RoutesTried(Payload, frozen=True, kw_only=True):
    token: MigrationKey
    source: HostName
    destination: HostName
    rows: Rows


class MatrixRequest(Payload, frozen=True, kw_only=True):
    """Operator to a worker: ask all hosts at once.

    :ivar seconds: how long to wait for their answers.
    """

    seconds: ty.Annotated[float, msgspec.Meta(gt=0, le=60)] = 5.0


class MatrixReply(Payload, frozen=True, kw_only=True):
    """:ivar surveys: of every host that heard the question; one that was not ready in time has
        a row ``worker.peer`` that says so, and nothing else.
    :ivar routes: the ways that were tried; of the others nothing is known.
    """

    surveys: ty.Annotated[tuple[Survey, ...], msgspec.Meta(max_length=10_000)]
    routes: ty.Annotated[tuple[RoutesTried, ...], msgspec.Meta(max_length=10_000)] = ()


def preflight(client: clients.Client, source: str, request: PreflightRequest) -> PreflightReply:
    """Have the worker of ``source`` look at the way to another host."""
    return client.call(source, "preflight", PreflightReply, PREFLIGHT_SECONDS, request, "1.1")


def survey(client: clients.Client, host: str, request: SurveyRequest) -> Survey:
    """Have ``host`` look at itself."""
    return client.call(host, "survey", Survey, SURVEY_SECONDS, request, "1.1")


def matrix(client: clients.Client, host: str, request: MatrixRequest) -> MatrixReply:
    """Have ``host`` ask all hosts for their surveys."""
    return client.call(host, "preflight_matrix", MatrixReply, 90, request, "1.1")


def survey_all(client: clients.Client, request: SurveyAllRequest) -> None:
    """Ask all workers at once."""
    client.cast_all("survey_all", request, "1.1")


def surveyed(client: clients.Client, host: str, answer: Surveyed) -> None:
    """Tell ``host`` what it asked all about."""
    client.cast(host, "surveyed", answer, "1.1")


def try_routes(client: clients.Client, host: str, request: TryRoutesRequest) -> None:
    """Have ``host`` try the way to another."""
    client.cast(host, "try_routes", request, "1.1")


def routes_tried(client: clients.Client, host: str, answer: RoutesTried) -> None:
    """Tell ``host`` how the way that it asked about was found."""
    client.cast(host, "routes_tried", answer, "1.1")
