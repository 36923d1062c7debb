# SPDX-License-Identifier: Apache-2.0
"""Every option, by group: Nova's, under Nova's names and types, and the worker's own."""

import socket

from oslo_config import cfg, types

from rbd_worker import model

NOVA_OPTS = [
    cfg.StrOpt("host", default=socket.gethostname()),
    cfg.StrOpt("state_path", default="/var/lib/nova"),
    cfg.StrOpt("instances_path", default="$state_path/instances"),
    cfg.IntOpt("live_migration_retry_count", default=30, min=0),
    cfg.IntOpt("max_concurrent_live_migrations", default=1, min=0),
]

NOVA_LIBVIRT_OPTS = [
    cfg.StrOpt("connection_uri", default=""),
    cfg.StrOpt("virt_type", default="kvm"),
    cfg.StrOpt("images_type", default="default"),
    cfg.StrOpt("images_rbd_pool", default="rbd"),
    cfg.StrOpt("images_rbd_ceph_conf", default=""),
    cfg.StrOpt("rbd_user"),
    cfg.StrOpt("rbd_secret_uuid"),
    cfg.StrOpt("live_migration_uri"),
    cfg.StrOpt("live_migration_scheme"),
    cfg.StrOpt("live_migration_inbound_addr"),
    cfg.StrOpt("live_migration_flag"),
    cfg.IntOpt("live_migration_bandwidth", default=0, min=0),
    cfg.BoolOpt("live_migration_tunnelled", default=False),
    cfg.BoolOpt("live_migration_with_native_tls", default=False),
    cfg.BoolOpt("live_migration_permit_post_copy", default=False),
    cfg.BoolOpt("live_migration_permit_auto_converge", default=False),
    cfg.IntOpt("live_migration_completion_timeout", default=800, min=0),
    cfg.StrOpt("live_migration_timeout_action", default="abort",
               choices=("abort", "force_complete")),
    cfg.IntOpt("live_migration_downtime", default=500, min=100),
    cfg.IntOpt("live_migration_downtime_steps", default=10, min=3),
    cfg.IntOpt("live_migration_downtime_delay", default=75, min=3),
]

NOVA_VNC_OPTS = [cfg.StrOpt("server_listen", default="127.0.0.1")]

#: What the worker may do for the libvirt hook; see ``hook_actions``.
HOOK_ACTIONS = ("directory", "secret", "monitors")

WORKER_OPTS = [
    cfg.StrOpt("executor", default=model.Executor.NOVA.value,
               choices=[(model.Executor.NOVA.value, "nova-compute moves the guest"),
                        (model.Executor.LIBVIRT.value,
                         "this worker moves the guest through libvirt; for hosts "
                         "without nova-compute")],
               help="Who moves the guest."),
    cfg.StrOpt("state_directory", default="$state_path/rbd-worker",
               help="Directory of the journal."),
    cfg.IntOpt("max_files", default=512, min=1, max=1000,
               help="Most files and directories that one instance directory may hold to be "
                    "carried along. A larger one is left alone, with a message."),
    cfg.IntOpt("max_depth", default=8, min=1, max=64,
               help="Deepest nesting of directories that is carried along."),
    cfg.IntOpt("max_data_gib", default=16, min=1,
               help="Most data (GiB, holes not counted) of one instance directory."),
    cfg.IntOpt("max_file_gib", default=256, min=1,
               help="Largest apparent size (GiB, holes counted) of one file."),
    cfg.IntOpt("inline_kib", default=4096, min=0, max=16384,
               help="How much of a directory (KiB) travels inside the one prepare message; "
                    "the rest is pulled in pieces."),
    cfg.IntOpt("console_history_files", default=8, min=1, max=64,
               help="How many rotated console logs a directory keeps; older ones are joined."),
    cfg.IntOpt("console_history_mib", default=16, min=1,
               help="Most console history (MiB) a directory keeps; the oldest leaves first, "
                    "as with virtlogd."),
    cfg.IntOpt("trash_retention", default=7 * 86400, min=0,
               help="Seconds that a removed directory can be restored."),
    cfg.IntOpt("trash_max_percent", default=10, min=0, max=100,
               help="Most of the file system of instances_path (percent of its size) that "
                    "removed directories may take; beyond it the oldest leave before "
                    "trash_retention. 0: no limit."),
    cfg.StrOpt("audit_action", default="trash",
               choices=[("trash", "move proven leftovers to the trash"),
                        ("report", "only say which directories are leftovers")],
               help="What the audit does with the leftovers of earlier migrations, also with "
                    "one in the way of a guest that is about to come."),
    cfg.IntOpt("audit_interval", default=3600, min=0,
               help="Seconds between two audits of instances_path, the first soon after the "
                    "start; 0 for none."),
    cfg.IntOpt("audit_min_age", default=3600, min=0,
               help="Seconds that a directory must have stood unchanged to be audited."),
    cfg.IntOpt("audit_pause", default=30, min=0,
               help="Seconds between the two proofs that the audit wants before it acts."),
    cfg.IntOpt("nova_cleanup_grace", default=60, min=0,
               help="Seconds given to nova-compute to remove the source's directory before "
                    "the worker asks for proof and removes what is left."),
    cfg.IntOpt("settle_interval", default=30, min=1,
               help="Seconds after which an open migration is looked at again when no event "
                    "came."),
    cfg.IntOpt("unresolved_retry_max", default=300, min=1,
               help="Longest pause in seconds between two attempts to resolve a migration."),
    cfg.IntOpt("prepare_timeout", default=86400, min=60,
               help="Seconds after which a migration that never began counts as failed. "
                    "Nova may hold one back behind max_concurrent_live_migrations."),
    cfg.IntOpt("workers", default=16, min=1, max=256,
               help="Most migrations that are acted upon at the same moment."),
    cfg.FloatOpt("libvirt_timeout", default=5.0, min=0.1,
                 help="Seconds that one question to libvirt may take."),
    cfg.FloatOpt("ceph_timeout", default=5.0, min=0.1,
                 help="Seconds that one question to Ceph may take."),
    cfg.IntOpt("tap_prefetch", default=50, min=1, max=1000,
               help="Messages that RabbitMQ sends ahead."),
    cfg.IntOpt("tap_queue_expires", default=86400, min=60,
               help="Seconds that RabbitMQ keeps the worker's queue while no worker listens."),
    cfg.IntOpt("tap_message_ttl", default=900, min=10,
               help="Seconds that a message waits in the worker's queue; they hold tokens."),
    cfg.IntOpt("tap_max_length", default=20000, min=100,
               help="Most messages in the worker's queue; the oldest leave first."),
    cfg.IntOpt("tap_probe_interval", default=20, min=1,
               help="Seconds between two proofs that the worker still hears the exchange."),
    cfg.StrOpt("hook_socket", default="$rbd_worker.state_directory/hook.sock",
               help="Unix socket on which the worker answers the libvirt hook. After a change "
                    "run 'rbd-workerctl hook install' again."),
    cfg.FloatOpt("hook_timeout", default=2.0, min=0.1, max=30.0,
                 help="Longest wait in seconds of an arriving guest for the worker's answer to "
                      "the libvirt hook; afterwards it comes in as if there were no hook. After "
                      "a change run 'rbd-workerctl hook install' again."),
    cfg.ListOpt("hook_actions", default=list(HOOK_ACTIONS),
                item_type=types.String(choices=HOOK_ACTIONS),
                help="What the worker may do when the libvirt hook asks about an arriving "
                     "guest: make a missing instance directory, refuse a guest whose Ceph "
                     "secret does not exist here, write the monitor addresses of this host's "
                     "ceph.conf into its RBD disks. Empty: the hook is not answered."),
    cfg.BoolOpt("snapshot_before_migration", default=False,
                help="Take a snapshot of all RBD disks of a guest as soon as its migration away "
                     "from here is heard of, without freezing it and beside the migration, which "
                     "it never holds up. It is removed when the migration has completed, and kept "
                     "for a week where it has not. Until then Nova cannot remove the disks."),
    cfg.FloatOpt("snapshot_freeze_limit", default=10.0, min=0.5, max=60.0,
                 help="Seconds that a guest's file systems are held still at most while its disks "
                      "are taken; then it is thawed and the snapshot is given up."),
    cfg.StrOpt("os_cloud", default=None,
               help="Cloud of clouds.yaml with which the worker asks nova-api for Nova's record "
                    "of an instance, to explain where it is wrong and to keep a directory that "
                    "Nova takes for the guest's. Needs openstacksdk (pip install "
                    "rbd-worker[openstack]) and a user who may see the servers of all projects. "
                    "Unset, as is os_auth_section: Nova is not asked."),
    cfg.StrOpt("os_auth_section", default=None,
               help="Instead of os_cloud, a section of nova.conf with keystone credentials of "
                    "such a user, as service_user or placement."),
    cfg.FloatOpt("os_timeout", default=10.0, min=0.5, max=120.0,
                 help="Seconds that one look at Nova's record may take."),
    cfg.StrOpt("metrics_listen", default="127.0.0.1:9642",
               help="Address and port for Prometheus (/metrics) and for health checks "
                    "(/healthz), as 127.0.0.1:9642 or [::1]:9642. There is neither encryption "
                    "nor a password: another address than loopback is for a network of the "
                    "operators' own. Empty: neither is offered."),
    cfg.StrOpt("rpc_version_cap", default=None,
               help="Oldest version of the workers' RPC API in use, as 1.0, while workers are "
                    "upgraded."),
]


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """For ``oslo-config-generator``: the worker's own options only."""
    return [("rbd_worker", WORKER_OPTS)]


def register(conf: cfg.ConfigOpts) -> None:
    """Register Nova's options that are read and the worker's own."""
    conf.register_opts(NOVA_OPTS)
    conf.register_opts(NOVA_LIBVIRT_OPTS, "libvirt")
    conf.register_opts(NOVA_VNC_OPTS, "vnc")
    conf.register_opts(WORKER_OPTS, "rbd_worker")
