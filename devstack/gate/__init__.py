# SPDX-License-Identifier: Apache-2.0
"""An unmodified Nova 34 on top of a running lab.

    from devstack import gate, lab
    cloud = gate.up(lab.up(), on_progress=print)
    server = cloud.boot("one", "node1")
    cloud.live_migrate(server, "node2")

nova-api, conductor, scheduler, placement and MariaDB run inside the lab's
controller, a nova-compute with ``images_type = rbd`` inside each of its hosts.
Keystone, glance and neutron are one small stand-in process, which can be told
to answer 503.  All of it ends with the lab.
"""

from devstack.gate.cloud import Cloud
from devstack.gate.compute_api import ApiError, Migration, Server
from devstack.gate.environment import CannotBuild, missing, why_not
from devstack.gate.startup import attach, up

__all__ = ["ApiError", "CannotBuild", "Cloud", "Migration", "Server", "attach", "missing", "up",
           "why_not"]
