# SPDX-License-Identifier: Apache-2.0
"""Ceph's words: librados, librbd and their bindings."""

from rbd_worker.catalogue.entry import Entry

_ORIGIN = "Ceph"
_USERS = "https://docs.ceph.com/en/latest/rados/operations/user-management/"
_LOCKS = "https://docs.ceph.com/en/latest/rbd/rbd-exclusive-locks/"

ENTRIES = (
    Entry("ceph-bad-key", _ORIGIN,
          "monclient(hunting): handle_auth_bad_method server allowed_methods [2] but i only "
          "support [2]",
          r"handle_auth_bad_method|RADOS permission (denied|error) \(error connecting",
          "The monitors do not accept this key for this user: it was changed, or belongs to "
          "another cluster.",
          "Compare 'ceph auth get client.USER' with the keyring and with libvirt's secret.",
          _USERS),
    Entry("ceph-no-keyring", _ORIGIN,
          "auth: unable to find a keyring on /etc/ceph/ceph.client.nova.keyring: (2) No such file "
          "or directory",
          r"unable to find a keyring on|RADOS object not found \(error connecting",
          "The user's keyring is not where ceph.conf has it, or may not be read.",
          "Put it there, readable by the user that asks: ceph auth get client.USER -o FILE.",
          _USERS),
    Entry("ceph-timed-out", _ORIGIN,
          "monclient(hunting): authenticate timed out after 300",
          r"authenticate timed out|RADOS timed out \(error connecting|\[errno 110\] RADOS",
          "No monitor answers: they are down, without a quorum, or cut off from this host.",
          "ceph -s elsewhere; try ports 3300 and 6789 of each monitor from here (rbd-workerctl "
          "preflight does)."),
    Entry("ceph-conf", _ORIGIN,
          "[errno 2] RADOS object not found (error calling conf_read_file)",
          r"error calling conf_read_file",
          "ceph.conf is missing, may not be read, or cannot be understood.",
          "See images_rbd_ceph_conf in nova.conf and the file's mode."),
    Entry("ceph-blocklisted", _ORIGIN,
          "librbd::ManagedLock: client is blocklisted: (108) Cannot send after transport endpoint "
          "shutdown",
          r"\b(is|client) (blocklisted|blacklisted)|transport endpoint shutdown",
          "The cluster shut this client out, as another one took over its lock while it was "
          "taken for dead.",
          "ceph osd blocklist ls. A guest that was shut out has to be restarted; remove the entry "
          "only if nobody else has its image.", _LOCKS),
    Entry("ceph-lock-break", _ORIGIN,
          "librbd::managed_lock::BreakRequest: failed to blocklist lock owner: (1) Operation not "
          "permitted",
          r"failed to (blocklist|blacklist) lock owner",
          "A dead client's lock stays, because the user may not blocklist it.",
          "Give the user mon 'profile rbd' (ceph auth caps); see rbd lock ls.", _LOCKS),
    Entry("ceph-busy", _ORIGIN,
          "[errno 16] RBD image is busy (error removing image)",
          r"RBD image is busy|image still has watchers",
          "Somebody has the image open: a guest, or a client that died less than 30 s ago.",
          "rbd status POOL/IMAGE names the watchers; end them, or wait for the dead one."),
    Entry("ceph-has-snapshots", _ORIGIN,
          "[errno 39] RBD image has snapshots (error deleting image)",
          r"image has snapshots",
          "The image has snapshots, which would go with it.",
          "rbd snap ls POOL/IMAGE; remove or flatten what depends on them first."),
    Entry("ceph-full", _ORIGIN,
          "[errno 28] RADOS no space (error writing data to rbd_data.1)",
          r"RADOS no space \(|RBD insufficient space available \(|pool '[^']+' is full"
          r"|\bfull osd\(s\)|pool\(s\) full",
          "The pool or an OSD is full; guests hang on their next write.",
          "ceph df, ceph health detail; add space before moving anything."),
    Entry("ceph-image-denied", _ORIGIN,
          "[errno 1] RBD permission error (error opening image b'0b6f4a8e_disk' at snapshot None)",
          r"RBD permission error \(",
          "The cluster lets this user in, but not to that image: its capabilities are for another "
          "pool, or for reading only.",
          "ceph auth get client.USER; give it osd 'profile rbd pool=POOL' (ceph auth caps), for "
          "the pools of volumes too.", _USERS),
    Entry("ceph-image-missing", _ORIGIN,
          "[errno 2] RBD image not found (error opening image b'0b6f4a8e_disk' at snapshot None)",
          r"RBD image not found",
          "The image is not in that pool: another pool, another cluster, or it was removed.",
          "rbd ls POOL as that user; compare images_rbd_pool and fsid of both hosts."),
)
