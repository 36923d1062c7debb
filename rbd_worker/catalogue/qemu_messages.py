# SPDX-License-Identifier: Apache-2.0
"""QEMU's words, from the log of a guest or from what libvirt passes on."""

from rbd_worker.catalogue.entry import Entry

_ORIGIN = "QEMU"
_MIGRATION = "https://www.qemu.org/docs/master/devel/migration/index.html"

ENTRIES = (
    Entry("rbd-connect-denied", _ORIGIN,
          "qemu-system-x86_64: -blockdev driver=rbd: error connecting: Permission denied",
          r"error connecting: (Permission denied|Operation not (supported|permitted))",
          "Ceph does not accept the user with the key of libvirt's secret.",
          "Compare it with 'ceph auth get': virsh secret-set-value on this host. rbd-workerctl "
          "preflight tries that key.",
          "https://docs.ceph.com/en/latest/rbd/libvirt/"),
    Entry("rbd-connect", _ORIGIN,
          "qemu-system-x86_64: -drive file=rbd:vms/disk: error connecting: Connection timed out",
          r"error connecting: (?!Permission denied|Operation not (supported|permitted))",
          "QEMU did not reach any of the monitors that the guest's definition names, which may be "
          "those of years ago, or misses ceph.conf.",
          "Compare the <host> elements of virsh dumpxml with mon_host in ceph.conf; rbd-worker's "
          "hook brings them up to date as a guest arrives."),
    Entry("rbd-image-missing", _ORIGIN,
          "qemu-system-x86_64: error reading header from 0b6f4a8e-5c1c-4a2f-9a5f_disk: No such "
          "file or directory",
          r"error reading header from",
          "The image is not in that pool of that cluster, or may not be read.",
          "rbd info POOL/IMAGE as the guest's user on this host; compare fsid and pool of both "
          "hosts with rbd-workerctl preflight."),
    Entry("image-locked", _ORIGIN,
          "Failed to get \"write\" lock. Is another process using the image?",
          r"Failed to get (shared )?\\?\"(write|consistent read|resize)\\?\" lock",
          "Another QEMU has the file open: the guest still runs at the source, or a tool looks "
          "into the image.",
          "Find it (lsof, virsh list on both hosts) and end the tool. Never force two guests onto "
          "one image."),
    Entry("console-address", _ORIGIN,
          "qemu-system-x86_64: -vnc 192.0.2.11:0: Failed to bind socket: Cannot assign requested "
          "address",
          r"Cannot assign requested address",
          "The guest's VNC or SPICE server listens on an address of the source, which the "
          "destination has not.",
          "Set [vnc] server_listen = 0.0.0.0 (or the destination's own, where Nova rewrites it) "
          "and restart guests that were started with the old one.",
          "https://docs.openstack.org/nova/latest/admin/remote-console-access.html"),
    Entry("console-port", _ORIGIN,
          "qemu-system-x86_64: -vnc 0.0.0.0:5: Failed to find an available port: Address already "
          "in use",
          r"(vnc|spice).*Address already in use|unused port in range '(vnc|spice)'",
          "The port of the guest's console is taken at the destination.",
          "ss -ltnp there; give the guest autoport='yes', or end what holds the port."),
    Entry("devices-differ", _ORIGIN,
          "Unknown savevm section or instance '0000:00:04.0/virtio-net' 0. Make sure that your "
          "current VM setup matches your saved VM setup, including any hotplugged devices",
          r"Unknown (savevm section|ramblock)|Missing section footer for"
          r"|(Length|Size) mismatch: \S+: 0x",
          "The devices or the memory of the guest at the destination differ from the source's: "
          "hot-plugged parts, or a firmware of another size.",
          "Compare virsh dumpxml of the source with what the destination was given; have the same "
          "versions of the firmware packages.", _MIGRATION),
    Entry("load-failed", _ORIGIN,
          "qemu-system-x86_64: load of migration failed: Input/output error",
          r"load of migration failed: (Input/output error|Connection reset)",
          "The stream from the source ended early: the source gave up, or the network broke.",
          "The reason stands in the source's log, just before that moment."),
    Entry("load-invalid", _ORIGIN,
          "qemu-system-x86_64: load of migration failed: Invalid argument",
          r"load of migration failed: (Invalid argument|Operation not permitted|No such)",
          "The destination's QEMU does not understand the guest's state; the line before says "
          "which device.",
          "Often an older QEMU at the destination: upgrade it, or move to one that is as new.",
          _MIGRATION),
    Entry("virtio-features", _ORIGIN,
          "Features 0x130afffa7 unsupported. Allowed features: 0x79bfffe7",
          r"Features 0x[0-9a-f]+ unsupported",
          "The destination's kernel or QEMU offers the guest's virtio device less than the "
          "source's did.",
          "Use the same machine type and kernel on both; see vhost and offloads of the "
          "interface."),
    Entry("cpu-msr", _ORIGIN,
          "qemu-system-x86_64: error: failed to set MSR 0x48f to 0x7fffff00036dfb",
          r"failed to set MSR 0x",
          "The destination's CPU or KVM does not have a register as the guest uses it, often with "
          "nested virtualisation.",
          "Compare microcode, kernel and the nested parameter of the kvm module of both hosts."),
    Entry("guest-memory", _ORIGIN,
          "qemu-system-x86_64: cannot set up guest memory 'pc.ram': Cannot allocate memory",
          r"cannot set up guest memory|unable to map backing store for guest RAM",
          "The destination has not enough memory, or not enough huge pages of that size.",
          "free, /proc/meminfo (HugePages_Free) there; choose another host or reserve more."),
    Entry("not-migratable", _ORIGIN,
          "State blocked by non-migratable device '0000:00:05.0/vfio'",
          r"State blocked by non-migratable|VFIO migration is not supported"
          r"|disallowing migration blocker",
          "A device of the guest cannot be moved while it runs.",
          "Detach it, or move the guest cold."),
    Entry("kvm-unavailable", _ORIGIN,
          "Could not access KVM kernel module: No such file or directory",
          r"Could not access KVM kernel module",
          "/dev/kvm is missing or may not be opened: virtualisation is off, or the module is not "
          "loaded.",
          "Load kvm_intel or kvm_amd, enable it in the firmware, see the group of /dev/kvm."),
)
