# SPDX-License-Identifier: Apache-2.0
"""Nova's words, from the log of nova-compute or nova-conductor, or a migration's record."""

from rbd_worker.catalogue.entry import Entry

_ORIGIN = "Nova"
_USAGE = "https://docs.openstack.org/nova/latest/admin/live-migration-usage.html"
_SETUP = "https://docs.openstack.org/nova/latest/admin/configuring-migrations.html"

ENTRIES = (
    Entry("destination-disk-exists", _ORIGIN,
          "The supplied disk path (/var/lib/nova/instances/0b6f4a8e-5c1c-4a2f-9a5f-3e1d7c2b9a10) "
          "already exists, it is expected not to exist.",
          r"The supplied disk path .* already exists|DestinationDiskExists",
          "A directory of the guest was left on the destination by an evacuation, a reverted "
          "resize, or a move that broke.",
          "rbd-workerctl audit on the destination moves it to the trash once it is proven to be "
          "left over. Do not remove it by hand while anything of the guest is there.",
          "https://bugs.launchpad.net/nova/+bug/1414895"),
    Entry("not-shared-storage", _ORIGIN,
          "node1 is not on shared storage: Shared storage live-migration requires either shared "
          "storage or boot-from-volume with no local disks.",
          r"is not on shared storage:",
          "Nova takes the guest's disks for local: images_type differs between the hosts, or a "
          "disk of the guest is not on RBD.",
          "Set images_type = rbd on both; see virsh domblklist for a local disk.", _SETUP),
    Entry("not-local-storage", _ORIGIN,
          "node1 is not on local storage: Block migration can not be used with shared storage.",
          r"is not on local storage:",
          "Block migration was asked for, and the disks are on RBD, which both hosts see.",
          "Ask without --block-migration.", _SETUP),
    Entry("nova-cpu", _ORIGIN,
          "Unacceptable CPU info: CPU doesn't have compatibility.",
          r"Unacceptable CPU info|InvalidCPUInfo",
          "Nova compared the CPUs before the move, and the destination's lacks something.",
          "Choose another host, or a common cpu_models; skip_cpu_compare_on_dest leaves the "
          "decision to libvirt.",
          "https://docs.openstack.org/nova/latest/admin/cpu-models.html"),
    Entry("nova-same-host", _ORIGIN,
          "Unable to migrate instance (0b6f4a8e-5c1c-4a2f-9a5f-3e1d7c2b9a10) to current host "
          "(node1).",
          r"Unable to migrate instance .* to current host",
          "Nova's record already has the guest on that host, rightly or not.",
          "Ask libvirt on both hosts (virsh list --all). Where the record is wrong, rbd-worker "
          "says so and touches nothing."),
    Entry("no-valid-host", _ORIGIN,
          "No valid host was found. There are not enough hosts available.",
          r"No valid host was found",
          "The scheduler found nobody: resources, aggregates, traits, or a service that is down.",
          "See nova-scheduler's log for the filter that ended it, and openstack compute service "
          "list.", "https://docs.openstack.org/nova/latest/admin/scheduling.html"),
    Entry("service-down", _ORIGIN,
          "Compute service of node2 is unavailable at this time.",
          r"Compute service of \S+ is (unavailable|still in use)",
          "nova-compute of that host has not reported lately: it is down, or cut off, or its "
          "clock is wrong.",
          "openstack compute service list; its log, RabbitMQ, and the clocks."),
    Entry("nova-precheck", _ORIGIN,
          "Migration pre-check error: Unable to migrate 0b6f4a8e: Disk of instance is too "
          "large(available on destination host:1073741824 < need:21474836480)",
          r"Migration pre-check error",
          "Nova's own look before the move found an obstacle, named after the colon.",
          "Do what it says; rbd-workerctl preflight looks at more.", _SETUP),
    Entry("nova-timeout", _ORIGIN,
          "Live migration not completed after 800 sec",
          r"Live migration not completed after \d+ sec",
          "The guest writes its memory faster than the network carries it.",
          "Allow auto-converge or post-copy, a longer downtime, or more time "
          "(live_migration_completion_timeout); rbd-workerctl migration watch shows the rates.",
          _USAGE),
    Entry("rpc-timeout", _ORIGIN,
          "MessagingTimeout: Timed out waiting for a reply to message ID 3f2a",
          r"Timed out waiting for a reply to message ID|MessagingTimeout",
          "The other nova-compute did not answer through RabbitMQ in time; it may have done what "
          "was asked all the same.",
          "See its log for that moment; long_rpc_timeout is the limit. What became of the guest "
          "only libvirt on both hosts can tell."),
    Entry("vif-plug-timeout", _ORIGIN,
          "Timed out waiting for events: [('network-vif-plugged', "
          "'0b6f4a8e-5c1c-4a2f-9a5f-3e1d7c2b9a10')]",
          r"Timed out waiting for (events: )?\[\('network-vif-plugged'"
          r"|Virtual Interface creation failed",
          "Neutron did not confirm the guest's port at the destination in time.",
          "See the network agent there and openstack port show; live_migration_wait_for_vif_plug "
          "must fit the kind of network."),
    Entry("port-binding", _ORIGIN,
          "Binding failed for port 0b6f4a8e, please check neutron logs for more information.",
          r"Binding failed for port",
          "Neutron could not bind the port on the destination: no agent alive, or another kind.",
          "openstack network agent list; the log of neutron-server names the mechanism driver."),
    Entry("task-state", _ORIGIN,
          "Cannot 'os-migrateLive' instance 0b6f4a8e while it is in task_state migrating",
          r"Cannot '\w[\w-]*' instance \S+ while it is in (task_state|vm_state)",
          "Nova's record has the guest in another task, maybe of a move that was never ended.",
          "openstack server migration list; where nothing moves any more, see rbd-workerctl "
          "migration list --open before the state is reset."),
    Entry("hypervisor-too-old", _ORIGIN,
          "The instance requires a newer hypervisor version than has been provided.",
          r"requires a newer hypervisor version",
          "The destination's QEMU is older than the source's.",
          "Upgrade it; skip_hypervisor_version_check_on_lm is for who knows better.", _USAGE),
)
