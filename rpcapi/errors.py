# SPDX-License-Identifier: Apache-2.0
"""What a peer answers instead of a result; oslo.messaging carries these by name."""


class PeerRefused(Exception):
    """The peer will not do it; asking again cannot help."""


class PeerBusy(Exception):
    """The peer cannot do it now; asking again may help."""


class PeerUndecided(Exception):
    """The peer cannot tell what is true; nothing may be concluded."""


#: Modules whose exceptions a client rebuilds from a reply.
REMOTE_MODULES = ("rpcapi.errors",)
