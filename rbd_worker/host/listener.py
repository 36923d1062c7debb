# SPDX-License-Identifier: Apache-2.0
"""A port of libvirt's range that is open for a moment, so that the way to it can be tried."""

import contextlib
import socket
import threading

from rbd_worker.host import libvirt_conf

#: Seconds for which the port is open.
OPEN_SECONDS = 5.0


def open_for_a_moment(address: str = "", seconds: float = OPEN_SECONDS,
                      ports: range = libvirt_conf.DATA_PORTS) -> int:
    """Listen on the highest free port of the range; it closes by itself.

    :param address: to listen on; empty for all.
    :param ports: that qemu.conf gives to arriving guests.
    :returns: the port, 0 where none is free.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    for port in reversed(ports):  # libvirt takes the lowest first
        listening = socket.socket(family, socket.SOCK_STREAM)
        try:
            listening.bind((address, port))
            listening.listen(4)
        except OSError:
            listening.close()
            continue
        closing = threading.Timer(seconds, _close, (listening,))
        closing.daemon = True
        closing.start()
        return port
    return 0


def _close(listening: socket.socket) -> None:
    with contextlib.suppress(OSError):
        listening.close()
