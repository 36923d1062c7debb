# SPDX-License-Identifier: Apache-2.0
"""A cloud on one machine: RabbitMQ, Ceph in memory and two libvirt hosts.

    from devstack import lab
    cloud = lab.up(on_progress=print)
    guest = cloud.define_guest(cloud.host("node1"), talkative=True)
    cloud.down()

Standard library only.  Needs root; runs beside whatever the machine runs
already, touches none of it and leaves nothing behind.
"""

from devstack.lab.compute import Compute
from devstack.lab.errors import CommandFailed, LabError, Missing, NotUp, TookTooLong
from devstack.lab.guests import Guest
from devstack.lab.host import Host
from devstack.lab.lab import Lab
from devstack.lab.service import Service
from devstack.lab.startup import attach, down, faults, up
from devstack.lab.worker import Worker

__all__ = ["CommandFailed", "Compute", "Guest", "Host", "Lab", "LabError", "Missing", "NotUp",
           "Service", "TookTooLong", "Worker", "attach", "down", "faults", "up"]
