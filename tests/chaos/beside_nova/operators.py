# SPDX-License-Identifier: Apache-2.0
"""The operator's hands: what Nova cannot mend by itself, done as the manual has it.

An operator waits until nothing moves any more, does one thing, and waits again.
"""

import re
import time

from devstack import gate
from devstack import lab as labs
from tests.chaos.beside_nova.arena import NovaArena

#: Seconds without a change after which an operator takes something for stuck.
PATIENCE = 12.0
#: Seconds for everything to be well again; an order whose cast was lost takes 60 alone.
SECONDS = 200.0
#: An order of which nothing was heard any more: nova-compute may have it in a queue, for a
#: day by default.  The next one must not be hindered by it, nor by what Nova made for it.
_NOT_BEGUN = "nova-compute has not begun to move the guest"


class Operator:
    """Of one server.

    :ivar done: what had to be done by hand, in order.
    """

    def __init__(self, arena: NovaArena, uuid: str) -> None:
        self._arena = arena
        self._uuid = uuid
        self._guest = arena.cloud.guest(uuid)
        self.done: list[str] = []
        self._awaits_migration = True

    def settle(self) -> list[str]:
        """Return once the server is well; else what is not."""
        deadline = time.monotonic() + SECONDS
        seen, since = self._looks(), time.monotonic()
        while lacks := self._lacks():
            if time.monotonic() > deadline:
                return [f"after {SECONDS:.0f} s: {'; '.join(lacks)}"]
            now = self._looks()
            if now != seen:
                seen, since = now, time.monotonic()
            elif time.monotonic() - since > PATIENCE:
                self._do_one_thing()
                since = time.monotonic()
            time.sleep(0.5)
        return []

    # -- looking -----------------------------------------------------------------

    def _looks(self) -> tuple[object, ...]:
        server = self._arena.cloud.show(self._uuid)
        return (server.status, server.task, server.host, *self._states().values(),
                *self._arena.cloud.directories(self._uuid),
                *((e.phase, e.outcome) for e in self._arena.open_entries(self._uuid)))

    def _states(self) -> dict[str, str | None]:
        return {host.name: self._guest.state(host) for host in self._arena.hosts}

    def _lacks(self) -> list[str]:
        """What keeps the server from being well; empty where it is."""
        server, states = self._arena.cloud.show(self._uuid), self._states()
        lacks = []
        if not server.is_at_rest or server.status != "ACTIVE":
            lacks.append(f"Nova says {server.status}, {server.task}, {server.fault}")
        if self._awaits_migration and not all(
                each.has_ended for each in self._arena.cloud.migrations(self._uuid)[-1:]):
            lacks.append("Nova has not ended the migration")
        if list(states.values()).count("running") != 1 or states[server.host or ""] != "running":
            lacks.append(f"Nova's record says {server.host}, libvirt says {states}")
        return lacks + self._leftovers(server)

    def _leftovers(self, server: gate.Server) -> list[str]:
        """What the workers have not put in order, but for an order that they wait for."""
        entries = self._arena.open_entries(self._uuid)
        if any(_NOT_BEGUN in entry.reason for entry in entries):
            return []
        lacks = [f"{e.migration.host} {e.migration.role} {e.phase} {e.outcome or 'open'}: "
                 f"{e.reason}" for e in entries]
        directories = self._arena.cloud.directories(self._uuid)
        if directories != [server.host]:
            lacks.append(f"directories stand on {directories}")
        staged = [name for name in self._arena.staging() if name.startswith(self._uuid)]
        return lacks + [f"{name} is still staged" for name in staged]

    # -- acting --------------------------------------------------------------------

    def _do_one_thing(self) -> None:
        """What helps most now; nothing where only the workers can."""
        states, server = self._states(), self._arena.cloud.show(self._uuid)
        running = [name for name, state in states.items() if state == "running"]
        if self._follow_advice(states):
            return
        if len(running) == 1 and running[0] != server.host:
            self._move_to_record(self._arena.lab.host(running[0]), server)
        elif not running:
            self._start_again(states, server)
        elif not server.is_at_rest or server.status != "ACTIVE":
            self._reset_state()
        else:
            self._awaits_migration = False  # what was killed in its last step ends none
            self._audit(self._arena.other(self._arena.lab.host(running[0])))

    def _follow_advice(self, states: dict[str, str | None]) -> bool:
        """End what libvirt left open, on the worker's own word."""
        for entry in self._arena.open_entries(self._uuid):
            said = re.search(rf"virsh destroy {self._uuid} on (node\d)", entry.reason)
            if said and "running" in states.values() and states[said[1]] == "paused":
                self.done.append(f"virsh destroy on {said[1]}")
                self._arena.lab.host(said[1]).virsh("destroy", self._uuid, check=False)
                return True
        return False

    def _reset_state(self) -> None:
        self.done.append("set --state active")
        self._arena.cloud.reset_state(self._uuid)

    def _move_to_record(self, here: labs.Host, server: gate.Server) -> None:
        """No command of Nova's changes the record: the guest goes to where it is."""
        there = self._arena.other(here)
        if not self._arena.directory(there, self._uuid).exists():
            for item in self._arena.trashed(there, self._uuid)[-1:]:
                self._arena.workerctl(there, "trash", "restore", item.parent.name)
        self.done.append(f"virsh migrate to {there.name}")
        try:
            self._guest.migrate(here, there, "--bandwidth", "500")
        except labs.LabError as e:  # libvirt may still be at work on the guest
            self.done[-1] += f" in vain ({e})"

    def _start_again(self, states: dict[str, str | None], server: gate.Server) -> None:
        """Of a guest that died; one that is defined elsewhere than on the record is undefined."""
        if self._guest.watchers():
            return
        for name, state in states.items():
            if state == "shut off" and name != server.host:
                self.done.append(f"virsh undefine on {name}")
                self._arena.lab.host(name).virsh("undefine", self._uuid, check=False)
        if not server.is_at_rest or server.status == "ERROR":
            self._reset_state()
        self.done.append("reboot --hard")
        self._arena.cloud.api.action(self._uuid, {"reboot": {"type": "HARD"}})

    def _audit(self, host: labs.Host) -> None:
        if self._arena.directory(host, self._uuid).exists():
            self.done.append(f"audit on {host.name}")
            self._arena.audit(host)
