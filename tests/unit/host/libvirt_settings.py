# SPDX-License-Identifier: Apache-2.0
"""``[libvirt]`` of a nova.conf that sets nothing, to be varied by a test."""

import typing as ty

from rbd_worker.conf import LibvirtSettings


def make(**options: ty.Any) -> LibvirtSettings:
    """Nova's defaults with some options changed."""
    values: dict[str, ty.Any] = {
        "uri": "test:///default", "virt_type": "kvm", "live_migration_uri": None,
        "live_migration_scheme": None, "live_migration_inbound_addr": None,
        "live_migration_flag": None, "live_migration_bandwidth": 0,
        "live_migration_tunnelled": False, "live_migration_with_native_tls": False,
        "live_migration_permit_post_copy": False,
        "live_migration_permit_auto_converge": False,
        "live_migration_completion_timeout": 800, "live_migration_timeout_action": "abort",
        "live_migration_downtime": 500, "live_migration_downtime_steps": 10,
        "live_migration_downtime_delay": 75}
    return LibvirtSettings(**{**values, **options})
