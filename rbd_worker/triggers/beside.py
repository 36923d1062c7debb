# SPDX-License-Identifier: Apache-2.0
"""Who else acts for this host?  Asked at the start, before anything begins.

nova-compute would move the same guests as executor libvirt does; another
worker would act on the same migrations.  The journal's lock knows nothing of a
worker with another journal, RabbitMQ does.  A broker that is away is no reason
not to start: then nobody's casts arrive either.
"""

import logging
import time
import typing as ty

import rpcapi
from rbd_worker import conf, errors
from rbd_worker.model import Executor
from rbd_worker.triggers.broker import BrokerSettings
from rbd_worker.triggers.link import consumers_of
from rpcapi import payloads

LOG = logging.getLogger(__name__)


def refuse_nova_compute(settings: conf.Settings, consumers: ty.Callable[[], int]) -> None:
    """For executor libvirt only.

    :param consumers: of nova-compute's queue of this host.
    :raises errors.NovaComputeRuns: it listens there.
    """
    if settings.executor is not Executor.LIBVIRT:
        return
    try:
        count = consumers()
    except errors.BrokerUnavailable as e:
        LOG.warning("whether nova-compute runs here will be asked before each move: %s",
                    e.sentence)
        return
    if count:
        raise errors.NovaComputeRuns(queue=f"compute.{settings.host}", consumers=count)


def refuse_another_worker(settings: conf.Settings, broker: BrokerSettings,
                          describe: ty.Callable[[str], payloads.Description]) -> None:
    """Before this one answers for its host.

    A consumer alone does not count: RabbitMQ takes up to a minute to see that
    the connection of a host without power has ended.

    :param describe: asks the worker of a host.
    :raises errors.HostTaken: one answers.
    """
    try:
        if not consumers_of(broker, f"{rpcapi.TOPIC}.{settings.host}"):
            return
        other = describe(settings.host)
    except errors.Error as e:
        LOG.info("no other worker answers for %s: %s", settings.host, e.sentence)
        return
    started = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(other.started))
    raise errors.HostTaken(host=settings.host, started=started)
