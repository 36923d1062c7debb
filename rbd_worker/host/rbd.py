# SPDX-License-Identifier: Apache-2.0
"""Who watches an RBD image, and under which address this host reaches Ceph.

A running guest's QEMU watches each of its images, so the watchers' addresses
tell which host runs it without asking libvirt.  Images are opened read-only,
which adds no watcher.  One client is kept connected; after an error it is
dropped and made again by the next question.

The bindings are Debian's ``python3-rados`` and ``python3-rbd``, imported when
they are needed first: everything else works without them.
"""

import contextlib
import ipaddress
import logging
import math
import re
import threading
import typing as ty

from rbd_worker import conf, errors
from rbd_worker.host.bounded import Bounded
from rbd_worker.model import RbdImage

LOG = logging.getLogger(__name__)

T = ty.TypeVar("T")

#: Every wait of librados for somebody else.
_TIME_LIMITS = ("client_mount_timeout", "rados_mon_op_timeout", "rados_osd_op_timeout")

#: ``ip:port/nonce`` with an IPv6 address in brackets, and maybe ``v1:``, ``v2:`` or
#: ``any:`` before it.
_ADDRESS = re.compile(r"(?:(?:v1|v2|any):)?(?:\[(?P<six>[^\[\],]+)\]|(?P<four>[^\[\]:,\s]+))"
                      r":\d+/\d+")


class Holders(ty.NamedTuple):
    """Who has an image open or locked, each as ``ip:port/nonce``."""

    watchers: frozenset[str]
    lockers: frozenset[str]


class ImageStore:
    """Thread-safe; each question blocks for ``timeout`` seconds at most.

    :param timeout: seconds; librados itself is told to give up after them, too.
    """

    def __init__(self, settings: conf.CephSettings, timeout: float) -> None:
        self._settings = settings
        self._timeout = timeout
        self._bounded = Bounded("ceph", timeout, self._unavailable)
        self._lock = threading.Lock()
        self._cluster: ty.Any = None
        self._is_closed = False

    def watchers(self, image: RbdImage) -> frozenset[str]:
        """The IP addresses from which an image is watched right now.

        :raises errors.ImageMissing: there is no such image.
        :raises errors.CephUnavailable: it cannot be told.
        :raises errors.CephBindingsMissing: rados and rbd cannot be imported.
        """
        def ask(cluster: ty.Any) -> frozenset[str]:
            with opened(cluster, image) as one:
                return addresses_in(",".join(w["addr"] for w in one.watchers_list()))
        return self._ask(ask, f"image {image}")

    def own_addresses(self) -> frozenset[str]:
        """The IP addresses of this host's Ceph client, as watchers show them.

        :raises errors.CephUnavailable: it cannot be told.
        :raises errors.CephBindingsMissing: rados and rbd cannot be imported.
        """
        return self._ask(lambda cluster: addresses_in(cluster.get_addrs()), "its own address")

    def holders(self, image: RbdImage) -> Holders:
        """Every client that watches an image or has a lock on it; opens it to see.

        :raises errors.CephForbids: this client may not open it.
        :raises errors.CephUnavailable: it cannot be told, a missing image included.
        """
        def look(cluster: ty.Any) -> Holders:
            with opened(cluster, image) as one:
                locks = one.list_lockers() or {"lockers": []}
                return Holders(clients_in(w["addr"] for w in one.watchers_list()),
                               clients_in(addr for _, _, addr in locks["lockers"]))
        return self.look(look, f"open image {image}")

    def look(self, question: ty.Callable[[ty.Any], T], wish: str, pool: str = "") -> T:
        """What ``question`` gives of the connected client (a ``rados.Rados``).

        :param wish: what it does, for people: ``read the map of the OSDs``.
        :param pool: that it is about; by default the one that Nova's disks are in.
        :raises errors.CephForbids: the capabilities of the user do not include it.
        :raises errors.CephUnavailable: it cannot be told.
        """
        return self._ask(self._allowed(question, wish, pool), wish)

    def work(self, action: ty.Callable[[ty.Any], T], wish: str, pool: str = "") -> T:
        """As :meth:`look`, in the caller's thread and for as long as it takes.

        Each single operation of librados still ends after ``timeout`` seconds.
        """
        return self._ask(self._allowed(action, wish, pool), wish, lambda call: call())

    def close(self) -> None:
        """Let go of the client; later questions are refused."""
        self._is_closed = True  # without the lock: who has it may wait for a monitor
        self._cluster = None  # shut down as soon as no thread uses it any more

    # -- inside --------------------------------------------------------------

    def _allowed(self, question: ty.Callable[[ty.Any], T], wish: str,
                 pool: str) -> ty.Callable[[ty.Any], T]:
        rados, rbd = bindings()
        denied = (rados.PermissionError, rados.PermissionDeniedError, rbd.PermissionError)

        def asked(cluster: ty.Any) -> T:
            try:
                return question(cluster)
            except denied as e:
                raise errors.CephForbids(user=self._settings.user, wish=wish,
                                         pool=pool or self._settings.pool, reason=e) from e
        return asked

    def _ask(self, question: ty.Callable[[ty.Any], T], what: str,
             run: ty.Callable[[ty.Callable[[], T]], T] | None = None) -> T:
        rados, rbd = bindings()

        def asked() -> T:
            cluster = self._ensure()
            try:
                return question(cluster)
            except (rados.ObjectNotFound, rbd.ImageNotFound):
                raise  # an answer; the client is fine
            except (rados.Error, rbd.Error):
                self._forget(cluster)
                raise
        try:
            return (run or self._bounded.run)(asked)
        except rbd.ImageNotFound as e:
            raise errors.ImageMissing(what=what, reason=e, conf=self._settings.conf_path,
                                      user=self._settings.user) from e
        except (rados.Error, rbd.Error, ValueError) as e:
            raise self._unavailable(str(e), what) from e

    def _ensure(self) -> ty.Any:
        """The connected client; made by whoever comes first, others wait."""
        rados, _ = bindings()
        with self._lock:
            if self._is_closed:
                raise self._unavailable("this worker is stopping")
            if self._cluster is None:
                cluster = rados.Rados(
                    conffile=self._settings.conf_path, name=f"client.{self._settings.user}",
                    conf=_limited(self._timeout))
                cluster.connect()
                LOG.info("connected to Ceph as %s", cluster.get_addrs())
                if self._is_closed:
                    raise self._unavailable("this worker is stopping")
                self._cluster = cluster
            return self._cluster

    def _forget(self, cluster: ty.Any) -> None:
        with self._lock:
            if self._cluster is cluster:
                self._cluster = None

    def _unavailable(self, reason: str, what: str = "watchers") -> errors.CephUnavailable:
        return errors.CephUnavailable(what=what, reason=reason, conf=self._settings.conf_path,
                                      user=self._settings.user)


@contextlib.contextmanager
def opened(cluster: ty.Any, image: RbdImage, snapshot: str | None = None, *,
           read_only: bool = True) -> ty.Iterator[ty.Any]:
    """An ``rbd.Image``, in its pool and namespace; read-only it adds no watcher."""
    _, rbd = bindings()
    namespace, _, name = image.name.rpartition("/")
    with cluster.open_ioctx(image.pool) as ioctx:
        ioctx.set_namespace(namespace)
        with rbd.Image(ioctx, name, snapshot=snapshot, read_only=read_only) as one:
            yield one


def log_in(settings: conf.CephSettings, seconds: float, key: str = "") -> str:
    """Log in anew, and tell the fsid of the cluster; the client is gone afterwards.

    :param seconds: how long a monitor may take; whole ones, at least 1.
    :param key: in Ceph's own form; empty for the one in the keyring.
    :raises errors.CephLoginRefused: the cluster knows the user under another key, or not at all.
    :raises errors.CephUnavailable: no keyring, no ceph.conf or no monitor.
    """
    rados, _ = bindings()
    cluster = None
    try:
        cluster = rados.Rados(conffile=settings.conf_path, name=f"client.{settings.user}",
                              conf={**_limited(seconds), **({"key": key} if key else {})})
        cluster.connect()
        return str(cluster.get_fsid())
    except (rados.PermissionError, rados.PermissionDeniedError) as e:
        raise errors.CephLoginRefused(
            user=settings.user, what="libvirt's secret" if key else "its keyring") from e
    except rados.Error as e:
        raise errors.CephUnavailable(what="a login", reason=e, conf=settings.conf_path,
                                     user=settings.user) from e
    finally:
        if cluster is not None:
            cluster.shutdown()


def _limited(seconds: float) -> dict[str, str]:
    """A C library's whole seconds; 0 would mean for ever."""
    return dict.fromkeys(_TIME_LIMITS, str(max(1, math.ceil(seconds))))


def clients_in(addresses: ty.Iterable[str]) -> frozenset[str]:
    """Ceph's addresses of clients as ``ip:port/nonce``, whatever messenger they name.

    :raises ValueError: as :func:`addresses_in`.
    """
    text = ",".join(addresses)
    addresses_in(text)
    return frozenset(match[0].partition(":")[2] if match[0][:3] in ("v1:", "v2:", "any")
                     else match[0] for match in _ADDRESS.finditer(text))


def addresses_in(text: str) -> frozenset[str]:
    """The IP addresses in Ceph's ``ip:port/nonce``, in their shortest form.

    :param text: one, or several as Ceph lists them: ``[v2:...,v1:...]``.
    :raises ValueError: something else is in there; a client that is not known
        must not look like nobody.
    """
    if _ADDRESS.sub("", text).strip("[], "):
        raise ValueError(f"{text!r} is not the address of a Ceph client")
    return frozenset(str(ipaddress.ip_address(match["six"] or match["four"]))
                     for match in _ADDRESS.finditer(text))


def bindings() -> tuple[ty.Any, ty.Any]:
    """The modules ``rados`` and ``rbd``.

    :raises errors.CephBindingsMissing: they cannot be imported.
    """
    try:
        import rados
        import rbd
    except ImportError as e:
        raise errors.CephBindingsMissing(reason=e) from e
    return rados, rbd
