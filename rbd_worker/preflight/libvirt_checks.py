# SPDX-License-Identifier: Apache-2.0
"""libvirt and QEMU: does this host's answer, and do two hosts' go together?"""

from rbd_worker.preflight.bench import Bench, Check, Comparison, Rows, Say
from rpcapi import preflight as contract


def _connection(bench: Bench, _request: contract.SurveyRequest, say: Say) -> Rows:
    versions = bench.versions()
    yield say.ok(f"{bench.settings.libvirt.uri}: libvirt {dotted(versions.libvirt)}, "
                 f"QEMU {dotted(versions.hypervisor)}")


CHECKS = (Check("libvirt.connection", _connection),)


def _host_uuids(source: contract.Traits, destination: contract.Traits, say: Say) -> Rows:
    if not source.host_uuid or not destination.host_uuid:
        yield say.unknown("one of the hosts told no UUID")
    elif source.host_uuid == destination.host_uuid:
        yield say.failed(f"{source.host} and {destination.host} both have {source.host_uuid}: "
                         "libvirt refuses with 'Attempt to migrate guest to the same host'",
                         "Set another host_uuid in libvirtd.conf (or virtqemud.conf) of one "
                         "of them (uuidgen) and restart libvirt there")
    else:
        yield say.ok("they differ")


def _versions(source: contract.Traits, destination: contract.Traits, say: Say) -> Rows:
    """A newer QEMU understands what an older one sends, not the other way round."""
    if not source.hypervisor_version or not destination.hypervisor_version:
        yield say.unknown("one of the hosts told no version")
        return
    found = (f"QEMU {dotted(source.hypervisor_version)} here, "
             f"{dotted(destination.hypervisor_version)} on {destination.host}; libvirt "
             f"{dotted(source.libvirt_version)} and {dotted(destination.libvirt_version)}")
    if (source.hypervisor_version > destination.hypervisor_version
            or source.libvirt_version > destination.libvirt_version):
        yield say.warning(found, "Going to an older version may be refused: upgrade "
                                 f"{destination.host} first")
    else:
        yield say.ok(found)


def _encryption(source: contract.Traits, destination: contract.Traits, say: Say) -> Rows:
    """The source's settings decide; the destination has to be ready for them."""
    for option, here, there in (
            ("live_migration_with_native_tls", source.native_tls, destination.native_tls),
            ("live_migration_tunnelled", source.tunnelled, destination.tunnelled)):
        if here is None or there is None:
            yield say.unknown(f"one of the hosts did not tell its {option}",
                              "Upgrade the older worker")
        elif here != there:
            yield say.failed(f"{option} is {here} here, {there} on {destination.host}",
                             f"Set [libvirt] {option} alike on all hosts")
        else:
            yield say.ok(f"{option} is {here} on both")


COMPARISONS = (Comparison("libvirt.host-uuid", _host_uuids),
               Comparison("libvirt.versions", _versions),
               Comparison("libvirt.encryption", _encryption))


def dotted(version: int) -> str:
    """libvirt's way to count: 9000000 is 9.0.0."""
    return f"{version // 1_000_000}.{version // 1000 % 1000}.{version % 1000}"
