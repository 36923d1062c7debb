# SPDX-License-Identifier: Apache-2.0
"""Words of the kernel and of RabbitMQ that end a migration as well."""

from rbd_worker.catalogue.entry import Entry

ENTRIES = (
    Entry("apparmor-denied", "kernel",
          "audit: type=1400 apparmor=\"DENIED\" operation=\"open\" profile=\"libvirt-0b6f4a8e\" "
          "name=\"/etc/ceph/ceph.conf\"",
          r"apparmor=\"DENIED\"",
          "AppArmor kept QEMU from a file; operation and name say which.",
          "Add the path to local/abstractions/libvirt-qemu and reload; ceph.conf and keyring need "
          "to be readable.", "https://libvirt.org/drvqemu.html"),
    Entry("selinux-denied", "kernel",
          "avc:  denied  { write } for  pid=1234 comm=\"qemu-kvm\" name=\"console.log\"",
          r"avc: +denied",
          "SELinux kept QEMU or libvirt from a file, often because its label was lost in a copy.",
          "restorecon -R on instances_path; ausearch -m avc shows the rest.",
          "https://libvirt.org/drvqemu.html"),
    Entry("disk-full", "kernel", "OSError: [Errno 28] No space left on device: 'console.log'",
          r"(?<!RBD )No space left on device",
          "A file system is full, or has no inodes left.",
          "df, df -i; rbd-workerctl trash list, trash purge for what the worker keeps."),
    Entry("out-of-memory", "kernel",
          "Out of memory: Killed process 1234 (qemu-system-x86)",
          r"Out of memory: Killed process \d+ \((qemu|libvirt|ceph)",
          "The kernel killed a process because the host had no memory left.",
          "Reserve more with reserved_host_memory_mb; see what took it."),
    Entry("exchange-differs", "RabbitMQ",
          "PRECONDITION_FAILED - inequivalent arg 'durable' for exchange 'nova' in vhost '/'",
          r"PRECONDITION_FAILED - inequivalent arg",
          "A queue or exchange exists with other properties than are asked for, as after a change "
          "of amqp_durable_queues or quorum queues.",
          "Set [oslo_messaging_rabbit] alike everywhere, stop all services, delete the exchange, "
          "start them.", "https://www.rabbitmq.com/docs/channels"),
    Entry("broker-refuses", "RabbitMQ",
          "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN",
          r"ACCESS_REFUSED",
          "RabbitMQ does not accept user or password, or the user may not use that resource.",
          "Compare transport_url; rabbitmqctl list_permissions.",
          "https://www.rabbitmq.com/docs/access-control"),
)
