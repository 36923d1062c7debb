# SPDX-License-Identifier: Apache-2.0
"""The gate's processes: each one a :class:`devstack.lab.Service` of the lab."""

import dataclasses
import json

from devstack.gate import environment, images, settings
from devstack.lab import Host, Lab, Service

FAULT_FILE = "/run/lab/standins.fault"
_STANDINS_SETTINGS = "/run/lab/standins.json"


def standins(lab: Lab) -> Service:
    """keystone, glance and neutron in one process."""
    return _python(lab, "standins", settings.path_of("standins.py"), _STANDINS_SETTINGS)


def configure_standins(lab: Lab) -> None:
    base = settings.standins_url(lab)
    address = lab.controller.address
    lab.controller.write(_STANDINS_SETTINGS, json.dumps({
        "address": address, "port": settings.STANDINS_PORT, "fault_file": FAULT_FILE,
        "services": {
            "identity": f"{base}/identity", "image": f"{base}/image",
            "network": f"{base}/network",
            "placement": f"http://{address}:{settings.PLACEMENT_PORT}",
            "compute": f"http://{address}:{settings.API_PORT}/v2.1"},
        "images": {image.uuid: {"name": image.name, "size": images.SIZE,
                                "location": image.location(lab.state.fsid)}
                   for image in images.IMAGES.values()}}))


def placement(lab: Lab) -> Service:
    one = _python(lab, "placement", settings.path_of("serve.py"), "placement.wsgi.api",
                  lab.controller.address, str(settings.PLACEMENT_PORT))
    return _with_env(one, OS_PLACEMENT_CONFIG_DIR=settings.PLACEMENT_DIRECTORY)


def nova_api(lab: Lab) -> Service:
    one = _python(lab, "nova-api", settings.path_of("serve.py"), "nova.wsgi.osapi_compute",
                  lab.controller.address, str(settings.API_PORT))
    return _with_env(one, OS_NOVA_CONFIG_DIR="/etc/nova",
                     OS_NOVA_CONFIG_FILES="api-paste.ini;nova.conf;database.conf")


def conductor(lab: Lab) -> Service:
    return _with_database(lab, "nova-conductor")


def scheduler(lab: Lab) -> Service:
    return _with_database(lab, "nova-scheduler")


def compute(host: Host) -> Service:
    """nova-compute of that host; it has no access to the database."""
    return Service(host, "nova-compute", (
        environment.program("nova-compute"), "--config-file", settings.NOVA_CONF))


def _with_database(lab: Lab, name: str) -> Service:
    return Service(lab.controller, name, (
        environment.program(name), "--config-file", settings.NOVA_CONF,
        "--config-file", settings.DATABASE_CONF))


def _python(lab: Lab, name: str, *argv: str) -> Service:
    return Service(lab.controller, name, (environment.program("python"), *argv))


def _with_env(service: Service, **values: str) -> Service:
    return dataclasses.replace(service, env=values)
