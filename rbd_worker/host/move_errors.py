# SPDX-License-Identifier: Apache-2.0
"""libvirt's errors of a move, sorted by what may be done about them.

Three tables by code: worth a retry, permanent with its remedy, and those that
do not say where the guest is.  A code in none of them is of the last kind:
nothing is concluded from what is not known.  The sort only decides whether
the order is repeated; where the guest is, both hosts are asked in any case.
"""

import libvirt

from rbd_worker import errors

_FROM_REMOTE = (libvirt.VIR_FROM_RPC, libvirt.VIR_FROM_REMOTE)

#: A second later it may work.
TRANSIENT = frozenset({
    libvirt.VIR_ERR_SYSTEM_ERROR,      # a connection refused or cut
    libvirt.VIR_ERR_RPC,
    libvirt.VIR_ERR_OPERATION_TIMEOUT,  # another job holds the domain
    libvirt.VIR_ERR_AGENT_UNRESPONSIVE,
    libvirt.VIR_ERR_RESOURCE_BUSY,
})

_SECRET = ("Define the Ceph secret on the destination under the same UUID as on the source "
           "([libvirt] rbd_secret_uuid) and set its value: virsh secret-list")
_CREDENTIALS = ("Check the credentials and certificates that libvirtd of the source uses "
                "towards the destination's, with virsh -c from there")

_DIRECTORY = ("The instance directory is not where the guest's definition has it at the "
              "destination: compare instances_path on both hosts, and look who removed it")

#: It will not pass by itself: what an operator can do about each.
PERMANENT: dict[int, str] = {
    libvirt.VIR_ERR_NO_SECRET: _SECRET,
    libvirt.VIR_ERR_INVALID_SECRET: _SECRET,
    libvirt.VIR_ERR_AUTH_FAILED: _CREDENTIALS,
    libvirt.VIR_ERR_AUTH_CANCELLED: _CREDENTIALS,
    libvirt.VIR_ERR_AUTH_UNAVAILABLE: _CREDENTIALS,
    libvirt.VIR_ERR_ACCESS_DENIED: "Check libvirt's polkit rules on both hosts",
    libvirt.VIR_ERR_OPERATION_DENIED: "Check that [libvirt] connection_uri is not read-only",
    libvirt.VIR_ERR_MIGRATE_UNSAFE:
        "Look for a disk of the guest that is not on shared storage, or set its cache to none",
    libvirt.VIR_ERR_CONFIG_UNSUPPORTED:
        "The destination's QEMU or libvirt lacks something that the guest's definition asks "
        "for; compare both hosts with virsh domcapabilities",
    libvirt.VIR_ERR_CPU_INCOMPATIBLE:
        "Choose a destination whose CPU has the guest's features, or a common [libvirt] "
        "cpu_mode and cpu_models",
    libvirt.VIR_ERR_DOM_EXIST:
        "The destination's libvirt already has a guest of that name or UUID: look at it there "
        "with virsh list --all, and undefine it if it is left over",
    libvirt.VIR_ERR_HOOK_SCRIPT_FAILED:
        "The hook at the destination refused; its sentence stands above",
    libvirt.VIR_ERR_XML_ERROR: "The guest's definition is not understood at the destination; "
                               "compare both hosts' libvirt versions",
    libvirt.VIR_ERR_XML_DETAIL: "The guest's definition is not understood at the destination; "
                                "compare both hosts' libvirt versions",
    libvirt.VIR_ERR_NO_SUPPORT: "The destination's libvirt is too old, or of another kind",
    libvirt.VIR_ERR_ARGUMENT_UNSUPPORTED:
        "One of the live_migration_* options is not known to this libvirt; see its log",
    libvirt.VIR_ERR_INVALID_ARG: "Check the live_migration_* options in nova.conf",
}

#: Where the guest is follows from none of these.
UNDECIDED = frozenset({
    libvirt.VIR_ERR_NO_DOMAIN,
    libvirt.VIR_ERR_OPERATION_INVALID,
    libvirt.VIR_ERR_MIGRATE_PERSIST_FAILED,  # the guest did move
    libvirt.VIR_ERR_MIGRATE_FINISH_OK,
    libvirt.VIR_ERR_OPERATION_ABORTED,
})


def sorted_error(instance: str, error: libvirt.libvirtError, note: str = "") -> errors.Error:
    """This worker's error for libvirt's.

    :param note: what this worker did meanwhile, told with the reason.
    """
    code, domain, text = error.get_error_code(), error.get_error_domain(), str(error)
    reason = f"{text} ({note})" if note else text
    if _lacks_directory(instance, code, domain, text):
        return errors.MoveRefused(instance=instance, reason=reason, fix=_DIRECTORY)
    if is_transient(code, domain, text):
        return errors.MoveInterrupted(instance=instance, reason=reason)
    if code in PERMANENT:
        return errors.MoveRefused(instance=instance, reason=reason, fix=PERMANENT[code])
    return errors.MoveUnsettled(instance=instance, reason=reason)


def _lacks_directory(instance: str, code: int, domain: int, text: str) -> bool:
    """Whether QEMU's host misses the instance directory: nobody makes it between two orders.

    libvirt has no code of its own for that.  The text counts only where it names a path
    with the guest's UUID in it; in another language the order is repeated, as before.
    """
    return (code == libvirt.VIR_ERR_SYSTEM_ERROR and domain not in _FROM_REMOTE
            and f"/{instance}/" in text and text.endswith("No such file or directory"))


def is_transient(code: int, domain: int, text: str) -> bool:
    """Whether the order is worth repeating."""
    if code == libvirt.VIR_ERR_INTERNAL_ERROR:
        return domain in _FROM_REMOTE  # a connection that closed; else anything at all
    if code == libvirt.VIR_ERR_OPERATION_FAILED:
        return "max_queued" in text  # too many wait for the domain; else the move itself
    return code in TRANSIENT
