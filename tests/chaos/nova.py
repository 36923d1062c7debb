# SPDX-License-Identifier: Apache-2.0
"""Nova's stand-in for rounds in which anything may break while it moves a guest."""

import threading
import time

from devstack import lab as labs
from tests.functional.nova_standin import Nova

#: MiB/s and milliseconds; a guest that dirties 48 MiB for ever takes some seconds with them.
_BANDWIDTH = 60
_DOWNTIME = 2000
_SETTLE_SECONDS = 75.0


class PatientNova(Nova):
    """Where libvirt ends with an error, it looks which host has the guest, as Nova does."""

    def _migrate(self, guest: labs.Guest, source: labs.Host, destination: labs.Host,
                 bandwidth: int) -> None:
        loosen = threading.Timer(1.0, _let_it_pause, (guest, source))
        loosen.start()
        try:
            super()._migrate(guest, source, destination, bandwidth or _BANDWIDTH)
        except labs.LabError as e:
            if _only_holder(guest) != destination.name:
                raise labs.CommandFailed("virsh migrate", 1, str(e)) from e
        finally:
            loosen.cancel()


def _let_it_pause(guest: labs.Guest, host: labs.Host) -> None:
    try:
        host.virsh("migrate-setmaxdowntime", guest.uuid, str(_DOWNTIME), check=False)
    except labs.LabError:
        pass  # a host that is frozen: the guest takes longer


def _only_holder(guest: labs.Guest) -> str | None:
    """The one host that runs the guest while the other does not know it; None if it takes long."""
    deadline = time.monotonic() + _SETTLE_SECONDS
    while time.monotonic() < deadline:
        try:
            states = {each.host.name: guest.state(each.host) for each in guest.lab.computes
                      if each.is_answering()}
        except labs.LabError:
            states = {}
        running = [name for name, state in states.items() if state == "running"]
        if len(states) == len(guest.lab.computes) and len(running) == 1 and None in \
                states.values():
            return running[0]
        time.sleep(0.5)
    return None
