# SPDX-License-Identifier: Apache-2.0
"""Every configuration file of the gate's Nova, written into the lab's hosts.

nova.conf of a compute host is the very file that the worker beside it reads.
"""

import collections.abc
import pathlib

from devstack.gate import environment
from devstack.lab import Host, Lab
from devstack.lab.ceph import USER

API_PORT = 8774
PLACEMENT_PORT = 8778
STANDINS_PORT = 5000
DATABASE_PORT = 3306
DATABASES = ("nova_api", "nova", "nova_cell0", "placement")

NOVA_CONF = "/etc/nova/nova.conf"
#: Only the controller's processes may reach the database: nova-compute has no access to it.
DATABASE_CONF = "/etc/nova/database.conf"
PLACEMENT_DIRECTORY = "/etc/nova/placement"

Section = collections.abc.Mapping[str, object]


def standins_url(lab: Lab) -> str:
    return f"http://{lab.controller.address}:{STANDINS_PORT}"


def database_url(lab: Lab, name: str) -> str:
    return (f"mysql+pymysql://nova:nova@{lab.controller.address}:{DATABASE_PORT}/{name}"
            "?charset=utf8mb3")


def write_controller(lab: Lab) -> None:
    """nova.conf of api, conductor and scheduler, their database, and placement's own."""
    host = lab.controller
    host.write(NOVA_CONF, ini(_nova(lab, host)), 0o640)
    host.write(DATABASE_CONF, ini({
        "api_database": {"connection": database_url(lab, "nova_api")},
        "database": {"connection": database_url(lab, "nova")}}), 0o640)
    paste = environment.VENV / "etc/nova/api-paste.ini"
    host.write("/etc/nova/api-paste.ini", paste.read_text())
    host.write(f"{PLACEMENT_DIRECTORY}/placement.conf", ini({
        "api": {"auth_strategy": "keystone"},
        "placement_database": {"connection": database_url(lab, "placement")},
        "keystone_authtoken": _token(lab), "oslo_policy": {"enforce_scope": False}}), 0o640)


def write_compute(lab: Lab, host: Host, extra: collections.abc.Mapping[str, Section] | None = None,
                  ) -> None:
    """nova.conf of a compute host; ``extra`` adds to its sections, or replaces."""
    sections = {name: dict(values) for name, values in _nova(lab, host).items()}
    for name, values in (extra or {}).items():
        sections.setdefault(name, {}).update(values)
    host.write(NOVA_CONF, ini(sections), 0o640)


def _nova(lab: Lab, host: Host) -> dict[str, Section]:
    credentials = _credentials(lab)
    return {
        "DEFAULT": _default(lab, host),
        "api": {"auth_strategy": "keystone"},
        "wsgi": {"api_paste_config": "/etc/nova/api-paste.ini"},
        "keystone_authtoken": _token(lab),
        "service_user": {"send_service_user_token": True, **credentials},
        "placement": credentials, "neutron": credentials, "cinder": credentials,
        "glance": {"region_name": "one"},
        "conductor": {"workers": 1}, "scheduler": {"workers": 1},
        "notifications": {"notification_format": "both",
                          "notify_on_state_change": "vm_and_task_state"},
        "oslo_messaging_notifications": {"driver": "messagingv2"},
        "oslo_concurrency": {"lock_path": "/var/lib/nova/lock"},
        "oslo_policy": {"enforce_scope": False},
        "vnc": {"enabled": False}, "spice": {"enabled": False},
        "libvirt": _libvirt(lab, host),
        # the CPU model of a virtual machine that runs this is no model libvirt knows
        "workarounds": {"skip_cpu_compare_on_dest": True},
        "nova_sys_admin": _privsep(), "privsep_osbrick": _privsep()}


def _default(lab: Lab, host: Host) -> Section:
    return {
        "host": host.name, "my_ip": host.address, "debug": True,
        "state_path": "/var/lib/nova", "transport_url": lab.broker_url,
        "compute_driver": "libvirt.LibvirtDriver",
        "vif_plugging_is_fatal": False, "vif_plugging_timeout": 0, "shutdown_timeout": 3,
        "osapi_compute_workers": 1, "report_interval": 5,
        # what failed migrations leave booked in placement must not fill the hosts
        "cpu_allocation_ratio": 100,
        # a shelved server stays on its host until an operator says otherwise
        "shelved_offload_time": -1}


def _libvirt(lab: Lab, host: Host) -> Section:
    return {
        "connection_uri": "qemu:///system", "virt_type": lab.virt_type, "cpu_mode": "none",
        "images_type": "rbd", "images_rbd_pool": "vms",
        "images_rbd_ceph_conf": "/etc/ceph/ceph.conf", "rbd_user": USER,
        "rbd_secret_uuid": lab.secret_uuid, "inject_partition": -2,
        "live_migration_inbound_addr": host.address, "live_migration_scheme": "tcp",
        # MiB/s: a guest that never rests then never arrives, an idle one is there at once
        "live_migration_bandwidth": 4}


def _credentials(lab: Lab) -> Section:
    return {
        "auth_type": "password", "auth_url": f"{standins_url(lab)}/identity/v3",
        "username": "nova", "password": "standin", "user_domain_name": "Default",
        "project_name": "service", "project_domain_name": "Default", "region_name": "one"}


def _token(lab: Lab) -> Section:
    return {"www_authenticate_uri": f"{standins_url(lab)}/identity", **_credentials(lab)}


def _privsep() -> Section:
    helper = environment.program("privsep-helper")
    return {"helper_command": f"{helper} --config-file {NOVA_CONF}"}


def ini(sections: collections.abc.Mapping[str, Section]) -> str:
    lines = []
    for name, values in sections.items():
        lines += [f"[{name}]", *(f"{key} = {value}" for key, value in values.items()), ""]
    return "\n".join(lines)


def path_of(name: str) -> str:
    """A file of this package, as every host of the lab sees it."""
    return str(pathlib.Path(__file__).with_name(name))
