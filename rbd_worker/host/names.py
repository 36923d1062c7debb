# SPDX-License-Identifier: Apache-2.0
"""The addresses behind a host's name, asked with a time limit.

The C library waits five seconds for a silent name server, twice, for each
server and each search domain; nobody who asks whether two hosts reach each
other should have to.
"""

import socket

from rbd_worker import errors
from rbd_worker.host.bounded import Bounded

#: A name server that is slower holds up every step of a move.
SECONDS = 2.0

_BOUNDED = Bounded("names", SECONDS, lambda reason: errors.NameUnresolved(name="", reason=reason))


def addresses(name: str) -> list[str]:
    """Every IP address of ``name``, which may be one itself, here and now.

    :raises errors.NameUnresolved: it has none, or nobody says so in time.
    """
    plain = name.strip("[]")
    try:
        answers = _BOUNDED.run(lambda: socket.getaddrinfo(plain, None, type=socket.SOCK_STREAM))
    except errors.NameUnresolved as e:
        raise errors.NameUnresolved(
            name=name, reason=f"the name service says nothing: {e.data['reason']}") from e
    except OSError as e:
        raise errors.NameUnresolved(name=name, reason=e) from e
    return sorted({str(answer[4][0]).partition("%")[0] for answer in answers})
