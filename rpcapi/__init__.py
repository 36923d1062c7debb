# SPDX-License-Identifier: Apache-2.0
"""The contract between the workers of two hosts.

This package imports nothing of ``rbd_worker``: it is what an operator's own
tool, or another release of the worker, may rely on.  ``payloads`` holds what
travels, ``client`` the calls, ``errors`` what a peer may answer instead.

Version history of the RPC API, topic ``rbd_worker``:

* 1.0 - ``describe``, ``pre_live_migration``, ``read_chunk``,
  ``post_live_migration``, ``rollback_live_migration``, ``testify``.

A minor version adds methods or optional fields and keeps the older ones; a
major version may drop them.  A caller never sends more than
``version_cap`` allows, and a server refuses what it does not know.
"""

TOPIC = "rbd_worker"
VERSION = "1.0"
