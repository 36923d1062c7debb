# SPDX-License-Identifier: Apache-2.0
"""The contract between the workers of two hosts.

This package imports nothing of ``rbd_worker``: it is what an operator's own
tool, or another release of the worker, may rely on.  ``payloads`` holds what
travels, ``client`` the calls between workers, ``errors`` what a peer may answer
instead.  What an operator asks has a module for each noun, calls and payloads
together.

Version history of the RPC API, topic ``rbd_worker``:

* 1.0 - ``describe``, ``pre_live_migration``, ``read_chunk``,
  ``post_live_migration``, ``rollback_live_migration``, ``testify``, ``look_again``,
  ``audit``; and without an answer of their own ``who_holds`` (to all) and ``holding``.
* 1.1 - for operators, on any host: see the modules that say "since 1.1". The destination
  may name a queue in ``read_chunk``, for the data to come there.
* 1.2 - ``OpenEntry.listed``: a source says which list of files it sends, so that nobody
  can send one in its name.
* 1.3 - ``OpenEntry.waits``: a source says that its guest has not begun to move.

A minor version adds methods or optional fields and keeps the older ones; a
major version may drop them.  A caller never sends more than
``version_cap`` allows, and a server refuses what it does not know.
"""

from oslo_service import backend

#: The workers' own exchange: Nova's is never declared by a worker, whose idea of its
#: durability might be another.
EXCHANGE = "rbd_worker"
TOPIC = "rbd_worker"
VERSION = "1.3"

# oslo.messaging starts its servers through oslo.service, whose default backend is
# the deprecated eventlet; it has to be told before oslo.messaging is imported.
backend.init_backend(backend.BackendType.THREADING)
