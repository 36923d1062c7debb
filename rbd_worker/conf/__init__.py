# SPDX-License-Identifier: Apache-2.0
"""Configuration; nobody else reads it.

The worker reads the nova.conf that nova-compute reads, under Nova's own names
and types, and needs none of its own options to work.  ``options`` has them
all, ``settings`` turns them into checked values; the rest of the code gets the
frozen :class:`Settings`.
"""

from rbd_worker.conf.credentials import NovaApiSettings
from rbd_worker.conf.options import (
    HOOK_ACTIONS,
    NOVA_LIBVIRT_OPTS,
    NOVA_OPTS,
    NOVA_VNC_OPTS,
    WORKER_OPTS,
    list_opts,
    register,
)
from rbd_worker.conf.settings import (
    CephSettings,
    LibvirtSettings,
    Settings,
    refuse_unfit,
    settings,
)

__all__ = ["HOOK_ACTIONS", "NOVA_LIBVIRT_OPTS", "NOVA_OPTS", "NOVA_VNC_OPTS", "WORKER_OPTS",
           "CephSettings", "LibvirtSettings", "NovaApiSettings", "Settings", "list_opts",
           "refuse_unfit", "register", "settings"]
