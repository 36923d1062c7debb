# SPDX-License-Identifier: Apache-2.0
"""libvirt's words for a move that did not begin, or broke."""

from rbd_worker.catalogue.entry import Entry

_MIGRATION = "https://libvirt.org/migration.html"
_TLS = "https://libvirt.org/kbase/tlscerts.html"
_REMOTE = "https://libvirt.org/remote.html"
_SECRET = "https://libvirt.org/formatsecret.html"
_ORIGIN = "libvirt"

ENTRIES = (
    Entry("state-change-lock", _ORIGIN,
          "Timed out during operation: cannot acquire state change lock (held by "
          "monitor=remoteDispatchDomainMigratePerform3Params)",
          r"cannot acquire state change lock(?!.*max_queued)",
          "Another job holds the guest: a move, a snapshot, a backup, or a call that hangs in "
          "QEMU. The name in brackets says which.",
          "virsh domjobinfo shows a move; let it end, or end it with virsh domjobabort. Where "
          "nothing moves, look whether QEMU or its Ceph hangs before restarting libvirtd.",
          _MIGRATION),
    Entry("max-queued", _ORIGIN,
          "operation failed: cannot acquire state change lock due to max_queued limit",
          r"due to max_queued limit",
          "So many calls wait for this guest that libvirt takes no more: the one at the head "
          "hangs.",
          "Find the call that hangs (virsh domjobinfo, QEMU's log); raising max_queued in "
          "qemu.conf only hides it."),
    Entry("secret-missing", _ORIGIN,
          "Secret not found: no secret with matching uuid 'fd88ccde-1037-4795-8306-4b0adfdc57fa'",
          r"no secret with matching uuid|no secret matches uuid",
          "The guest's definition names a libvirt secret with the Ceph key that this host has "
          "not, usually because it was defined under another UUID.",
          "Define it with the UUID of rbd_secret_uuid on every host (virsh secret-define, virsh "
          "secret-set-value); rbd-workerctl preflight compares them.", _SECRET),
    Entry("same-host", _ORIGIN,
          "internal error: Attempt to migrate guest to the same host "
          "00020003-0004-0005-0006-000700080009",
          r"Attempt to migrate guest to the same host",
          "Both hosts tell the same host UUID, as cloned machines and some firmware do, or the "
          "name of the destination leads back to the source.",
          "Set another host_uuid in libvirtd.conf (or virtqemud.conf) of one of them and restart "
          "libvirt there.", _MIGRATION),
    Entry("address-unresolved", _ORIGIN,
          "Unable to resolve address 'node2.example' service '49152': Name or service not known",
          r"Unable to resolve address",
          "The destination's libvirt tells its own host name, and the source cannot resolve it.",
          "Add the name to DNS or /etc/hosts of the source, or set live_migration_inbound_addr on "
          "the destination.", _MIGRATION),
    Entry("destination-localhost", _ORIGIN,
          "internal error: hostname on destination resolved to localhost, but migration requires "
          "an FQDN",
          r"hostname on destination resolved to localhost",
          "The destination's libvirt takes its own name for localhost, and has no other to send "
          "guests to.",
          "Give it its name (hostnamectl), or set live_migration_inbound_addr there; "
          "rbd-workerctl preflight tells what libvirt takes for its name.", _MIGRATION),
    Entry("listener-refused", _ORIGIN,
          "unable to connect to server at 'node2:16509': Connection refused",
          r"unable to connect to server at '[^']+:16(509|514)'.*Connection refused",
          "Nobody listens on the destination's port of libvirt: its TCP or TLS socket is off.",
          "Enable libvirtd-tcp.socket or libvirtd-tls.socket (or virtproxyd's) there; without "
          "sockets of systemd set listen_tcp or listen_tls and start with --listen.", _REMOTE),
    Entry("server-unreachable", _ORIGIN,
          "unable to connect to server at 'node2:49152': No route to host",
          r"unable to connect to server at '[^']+'.*(No route to host|timed out|unreachable)"
          r"|unable to connect to server at '[^']+:4[59]\d{3}'.*refused",
          "Packets to that port of the destination are dropped or rejected on the way.",
          "Open 16509 or 16514 and 49152-49215 between the compute hosts, and see that the name "
          "leads to the migration network.", _MIGRATION),
    Entry("remote-uri", _ORIGIN,
          "operation failed: Failed to connect to remote libvirt URI qemu+tcp://node2/system",
          r"Failed to connect to remote libvirt URI",
          "The source's libvirt could not open the destination's; what follows says why.",
          "Try it from the source: virsh -c with that URI. rbd-workerctl preflight tells which "
          "part of the way is missing.", _REMOTE),
    Entry("connection-lost", _ORIGIN,
          "internal error: connection closed due to keepalive timeout",
          r"closed due to keepalive timeout|Cannot recv data: Connection reset by peer"
          r"|End of file while reading data|client socket is closed",
          "The connection between the two libvirts ended: a daemon was restarted or died, or the "
          "network was away for too long.",
          "Look at both libvirts' logs for that moment. Where the guest is, both hosts have to be "
          "asked: rbd-workerctl migration show."),
    Entry("bridge-missing", _ORIGIN,
          "Cannot get interface MTU on 'qbr0b6f4a8e-5c': No such device",
          r"Cannot get interface MTU on",
          "The bridge that the guest's definition names is not there on the destination: the "
          "port was not plugged, or its agent plugs another way.",
          "See that the network agent of the destination is up and of the same kind (hybrid "
          "plug or not), and look at the port's binding.",
          "https://docs.openstack.org/neutron/latest/admin/"),
    Entry("bridge-port", _ORIGIN,
          "Unable to add bridge br-int port tap0b6f4a8e-5c: No such device",
          r"Unable to add (bridge \S+ port|port \S+ to OVS bridge)",
          "The bridge is missing on the destination, or Open vSwitch does not answer.",
          "ip link show, ovs-vsctl show there; start the network agent that makes the bridge."),
    Entry("network-missing", _ORIGIN,
          "Network not found: no network with matching name 'default'",
          r"no network with matching (name|uuid)",
          "The guest is in a network of libvirt's own that the destination does not have.",
          "Define and start it there: virsh net-define, virsh net-start."),
    Entry("cpu-incompatible", _ORIGIN,
          "operation failed: guest CPU doesn't match specification: missing features: avx512f",
          r"guest and host CPU are not compatible|CPU is incompatible with host CPU"
          r"|guest CPU (is not compatible with|doesn't match specification)|CPUs are incompatible"
          r"|Host CPU (does not provide required features|provides forbidden features"
          r"|does not strictly match guest CPU)",
          "The guest was started with CPU features that the destination lacks: another model, "
          "another microcode, or a kernel that hides them.",
          "Choose a host of the same kind, or give all hosts a common cpu_mode = custom and "
          "cpu_models; running guests have to be restarted for it.",
          "https://docs.openstack.org/nova/latest/admin/cpu-models.html"),
    Entry("machine-type", _ORIGIN,
          "unsupported configuration: Emulator '/usr/bin/qemu-system-x86_64' does not support "
          "machine type 'pc-q35-9.0'",
          r"does not support machine type|: unsupported machine type",
          "The guest was started by a newer QEMU than the destination has.",
          "Upgrade the destination first; set hw_machine_type to one that all hosts have."),
    Entry("tls-name", _ORIGIN,
          "Certificate [session] owner does not match the hostname node2",
          r"owner does not match the hostname",
          "The destination's TLS certificate is for other names than the one that was asked for.",
          "Issue it with that name and address as subjectAltName, or set "
          "live_migration_inbound_addr to a name that is in it.", _TLS),
    Entry("tls-file", _ORIGIN,
          "Cannot read CA certificate '/etc/pki/CA/cacert.pem': No such file or directory",
          r"Cannot read (CA certificate|CA revocation list|certificate|private key) '"
          r"|Unable to import (CA|client|server) certificate|Unable to set x509 "
          r"|Cannot (load|import|initialize) (CA )?certificate",
          "A file of the TLS set-up is missing or may not be read by libvirtd or QEMU.",
          "Put the files where the message looks and check owner and mode; QEMU's own are in "
          "/etc/pki/qemu.", _TLS),
    Entry("tls-untrusted", _ORIGIN,
          "authentication failed: Failed to verify peer's certificate",
          r"Failed to verify peer's certificate|certificate .*(has expired|is not yet active)"
          r"|certificate (hasn't got a known issuer|is not trusted|failed validation)"
          r"|certificate .* failed validation against"
          r"|Unable to verify (client|server) certificate",
          "The other side's certificate is expired, not valid yet, or of another CA.",
          "openssl x509 -dates and -issuer on both hosts; compare clocks and CA files.", _TLS),
    Entry("auth-failed", _ORIGIN,
          "authentication failed: authentication failed",
          r"authentication (failed: (authentication|Failed to (start|step) SASL)|unavailable)",
          "libvirt wants credentials (SASL or polkit) that the caller has not.",
          "Try virsh -c with the URI as the user that libvirtd of the source runs as; see "
          "auth_tcp, auth_tls and the polkit rules of the destination.",
          "https://libvirt.org/auth.html"),
    Entry("libvirt-socket", _ORIGIN,
          "Failed to connect socket to '/var/run/libvirt/libvirt-sock': No such file or directory",
          r"Failed to connect socket to '\S*/(libvirt|virtqemud)-sock",
          "libvirt's daemon does not run on this host, or another one than is asked for.",
          "systemctl status libvirtd virtqemud.socket; with modular daemons the URI stays "
          "qemu:///system."),
    Entry("virtlogd", _ORIGIN,
          "Failed to connect socket to '/var/run/libvirt/virtlogd-sock': Connection refused",
          r"virtlogd-sock|can't connect to virtlogd",
          "virtlogd, which writes the guests' consoles, does not run.",
          "systemctl start virtlogd.socket; its restart loses the consoles of running guests."),
    Entry("unsafe-migration", _ORIGIN,
          "Unsafe migration: Migration without shared storage is unsafe",
          r"Unsafe migration:",
          "A disk of the guest is a local file, or has a cache that libvirt does not trust. Disks "
          "on RBD count as safe.",
          "Look for it with virsh domblklist (a config drive, an ephemeral disk); set its cache "
          "to none or have it on RBD.", _MIGRATION),
    Entry("domain-exists", _ORIGIN,
          "operation failed: domain 'instance-0000002a' already exists with uuid "
          "0b6f4a8e-5c1c-4a2f-9a5f-3e1d7c2b9a10",
          r"domain '[^']+' (already exists with uuid|is already (defined with uuid|active"
          r"|being started))",
          "The destination's libvirt has a guest of that name or UUID, left over or of another "
          "cloud.",
          "virsh list --all there; undefine what is shut off and left over. Never destroy one "
          "that runs without asking both hosts."),
    Entry("no-domain", _ORIGIN,
          "Domain not found: no domain with matching uuid '0b6f4a8e-5c1c-4a2f-9a5f-3e1d7c2b9a10'",
          r"no domain with matching (uuid|name|id)",
          "The guest is not on the host that was asked: it moved, ended, or the record is wrong.",
          "Ask all hosts where it is: rbd-workerctl audit, virsh list --all. Only libvirt knows."),
    Entry("move-cancelled", _ORIGIN,
          "operation aborted: job 'migration out' canceled by client",
          r"(migration (out )?job|job 'migration out')\W*:? *cancell?ed by client",
          "Somebody ended the move: an operator, Nova's time limit, or the client that went away.",
          "Nothing to repair; the guest runs on at the source. See completion timeout and "
          "downtime in nova.conf if it was the time limit.",
          "https://docs.openstack.org/nova/latest/admin/live-migration-usage.html"),
    Entry("move-failed", _ORIGIN,
          "operation failed: job 'migration out' unexpectedly failed",
          r"(migration (out )?job|job 'migration (out|in)').*(unexpectedly failed|failed due to)",
          "QEMU ended the move; the reason stands in the log of the guest.",
          "Read /var/log/libvirt/qemu/NAME.log on the destination first, then on the source, and "
          "explain its last lines."),
    Entry("hook-refused", _ORIGIN,
          "Hook script execution failed: internal error: Child process (LC_ALL=C "
          "/etc/libvirt/hooks/qemu instance-0000002a migrate begin -) unexpected exit status 3: "
          "rbd-worker: the secret is not defined",
          r"Hook script execution failed",
          "A hook at the destination refused the guest; its sentence stands at the end.",
          "Do what the sentence says. If it is another program's hook, look in "
          "/etc/libvirt/hooks/qemu.d.", "https://libvirt.org/hooks.html"),
    Entry("ports-taken", _ORIGIN,
          "internal error: Unable to find an unused port in range 'migration' (49152-49215)",
          r"Unable to find an unused port in range 'migration'",
          "All data ports of the destination are taken: by moves that hang, or by other programs, "
          "since the kernel hands out ports of that range too.",
          "Widen migration_port_min and _max in qemu.conf, and keep the range out of "
          "net.ipv4.ip_local_port_range with ip_local_reserved_ports."),
    Entry("directory-missing", _ORIGIN,
          "Failed to create file '/var/lib/nova/instances/0b6f4a8e-5c1c-4a2f-9a5f-3e1d7c2b9a10/"
          "console.log': No such file or directory",
          r"(create|open|opening) (file |logfile )?'?\S*/instances/\S+.*No such file or directory",
          "The instance directory is not there at the destination: older Novas make none for "
          "disks on RBD, or the paths differ.",
          "Install rbd-worker's hook at the destination (rbd-workerctl hook install); compare "
          "instances_path of both hosts."),
    Entry("host-devices", _ORIGIN,
          "Requested operation is not valid: cannot migrate a domain with <hostdev "
          "mode='subsystem' type='pci'>",
          r"cannot migrate a domain with <hostdev|domain has assigned (non-USB )?host devices",
          "A device of the host is passed through to the guest; it cannot come along.",
          "Detach it first, or move the guest cold."),
    Entry("snapshots", _ORIGIN,
          "Requested operation is not valid: cannot migrate domain with 1 snapshots",
          r"cannot migrate domain with \d+ (snapshots|checkpoints)",
          "libvirt itself knows snapshots or checkpoints of the guest, made with virsh or by a "
          "backup.",
          "virsh snapshot-list, checkpoint-list; delete their metadata. RBD snapshots are no "
          "obstacle."),
    Entry("apparmor-profile", _ORIGIN,
          "internal error: cannot load AppArmor profile "
          "'libvirt-0b6f4a8e-5c1c-4a2f-9a5f-3e1d7c2b9a10'",
          r"cannot load AppArmor profile|virt-aa-helper",
          "libvirt could not make the guest's AppArmor profile at the destination.",
          "Run virt-aa-helper as its log shows; a path of the guest outside the usual places "
          "needs a rule in local/abstractions/libvirt-qemu."),
)
