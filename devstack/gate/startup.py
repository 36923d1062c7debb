# SPDX-License-Identifier: Apache-2.0
"""Bringing Nova up on a running lab, its parts at the same time where they allow it.

Nothing has to be brought down: every process is a child of its host's process
1 and every file is in the lab's directory, so ``lab.down()`` ends it all.
"""

import collections.abc
import concurrent.futures
import contextlib
import time
import urllib.error
import urllib.request

from devstack.gate import (
    ceph_manager,
    database,
    environment,
    images,
    services,
    settings,
)
from devstack.gate.cloud import Cloud
from devstack.lab import Host, Lab, LabError, Service
from devstack.lab.processes import wait_until

Progress = collections.abc.Callable[[str], None]
_MARK = "gate.ready"


def attach(lab: Lab) -> Cloud:
    """The gate that runs on that lab.

    :raises LabError: none does.
    """
    if not (lab.root / _MARK).exists():
        raise LabError(f"no Nova runs on the lab in {lab.root}; run: python -m devstack.gate up")
    return Cloud(lab)


def up(lab: Lab, on_progress: Progress = lambda line: None,
       compute: collections.abc.Mapping[str, settings.Section] | None = None) -> Cloud:
    """Start Nova on a lab, or return the one that runs.

    :param compute: more for nova.conf of the compute hosts, by section.
    :raises environment.CannotBuild: Nova's environment is not complete.
    :raises LabError: a part did not come up.
    """
    if not environment.is_built():
        raise environment.CannotBuild("run first: python3 -m devstack.gate build")
    with contextlib.suppress(LabError):
        return attach(lab)
    began = time.monotonic()

    def done(what: str) -> None:
        on_progress(f"{time.monotonic() - began:5.1f} s  {what}")

    settings.write_controller(lab)
    services.configure_standins(lab)
    hosts = [each.host for each in lab.computes]
    for host in hosts:
        settings.write_compute(lab, host, compute)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        jobs = {pool.submit(_start_controller, lab): "MariaDB, placement, api, conductor",
                pool.submit(ceph_manager.start, lab): "Ceph's manager",
                pool.submit(images.ensure_in_ceph, lab): "images",
                pool.submit(_prepare_computes, lab): "ssh between the computes"}
        for job in concurrent.futures.as_completed(jobs):
            job.result()
            done(jobs[job])
    _start_computes(lab, hosts)
    done("nova-computes")
    (lab.root / _MARK).touch()
    return Cloud(lab)


def _start_controller(lab: Lab) -> None:
    standins = services.standins(lab)
    standins.start()
    database.start(lab)
    placement, api = services.placement(lab), services.nova_api(lab)
    conductor = services.conductor(lab)
    for each in (placement, api, conductor, services.scheduler(lab)):
        each.start()
    _wait_http(standins, f"{settings.standins_url(lab)}/identity/v3")
    for each, port in ((placement, settings.PLACEMENT_PORT), (api, settings.API_PORT)):
        _wait_http(each, f"http://{lab.controller.address}:{port}/")


def _prepare_computes(lab: Lab) -> None:
    """A cold migration asks over ssh whether both hosts share their directories."""
    lab.enable_ssh()


def _start_computes(lab: Lab, hosts: list[Host], seconds: float = 90.0) -> None:
    cloud = Cloud(lab)
    for host in hosts:
        services.compute(host).start()
    names = {host.name for host in hosts}
    log = services.compute(hosts[0]).log

    def all_up() -> bool:
        known = cloud.api.compute_services()
        return {name for name, each in known.items() if each["state"] == "up"} >= names

    wait_until(all_up, seconds, "both nova-computes", log,
               failed=lambda: not all(services.compute(host).is_running() for host in hosts))
    database.manage(lab, "cell_v2", "discover_hosts")

    def all_found() -> bool:
        found = cloud.api.call("GET", "/os-hypervisors")["hypervisors"]
        return len(found) >= len(names)

    wait_until(all_found, seconds, "both hypervisors", log)


def _wait_http(service: Service, url: str, seconds: float = 90.0) -> None:
    wait_until(lambda: _answers(url), seconds, service.name, service.log,
               failed=lambda: not service.is_running())


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except urllib.error.HTTPError as e:
        return e.code < 500
    except OSError:
        return False
    return True
