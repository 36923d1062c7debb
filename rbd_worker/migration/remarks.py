# SPDX-License-Identifier: Apache-2.0
"""What Nova's record adds to the reason of an unresolved migration, for the operator.

Asked for seldom: a migration that resolves itself within seconds, as most do,
never asks nova-api, and one that does not asks once in ``FRESH_SECONDS``.
"""

from rbd_worker import errors
from rbd_worker.migration import records
from rbd_worker.migration.task import Task
from rbd_worker.model import GuestState

#: Attempts to resolve a migration before Nova's record is looked at: some seconds.
PATIENCE = 3
#: Seconds for which a remark is good.
FRESH_SECONDS = 60

_UNKNOWN = "unknown"


def remark(task: Task) -> str:
    """A sentence that begins with a blank, or nothing."""
    if not (task.is_nova and task.ports.records.are_asked) or task.attempts < PATIENCE:
        return ""
    now = task.ports.clock()
    if task.remark is None or now > task.remark[0] + FRESH_SECONDS:
        sentence = task.ports.records.opinion(task.migration.instance, _found(task)).sentence
        task.remark = now, f". {sentence}" if sentence else ""
    return task.remark[1]


def _found(task: Task) -> records.Found:
    """The one of both hosts that has the guest, if one alone has it."""
    migration, ports = task.migration, task.ports
    try:
        said = {migration.host: str(ports.hypervisor.state(migration.instance)),
                migration.peer: ports.peers.testify(migration.peer, migration.instance).state}
    except errors.Error:
        return records.NOWHERE
    for wanted in ({GuestState.RUNNING, GuestState.PAUSED}, {GuestState.SHUTOFF}):
        hosts = [host for host, state in said.items() if state in wanted]
        if len(hosts) == 1 and _UNKNOWN not in said.values():
            return records.Found(hosts[0], is_running=GuestState.SHUTOFF not in wanted)
    return records.NOWHERE
