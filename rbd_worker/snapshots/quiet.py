# SPDX-License-Identifier: Apache-2.0
"""One hand at a time on the disks of an instance, and none while it moves."""

import contextlib
import threading
import typing as ty

from rbd_worker import errors
from rbd_worker.host.hypervisor import Hypervisor
from rbd_worker.migration.task import Task
from rbd_worker.model import GuestState

_MOVING = (GuestState.INCOMING, GuestState.OUTGOING, GuestState.STRANDED)


class Quiet:
    """Thread-safe.

    :param tasks_of: the open migrations of an instance on this host.
    """

    def __init__(self, hypervisor: Hypervisor,
                 tasks_of: ty.Callable[[str], ty.Sequence[Task]]) -> None:
        self._hypervisor = hypervisor
        self._tasks_of = tasks_of
        self._lock = threading.Lock()
        self._taken: set[str] = set()

    @contextlib.contextmanager
    def alone(self, instance: str) -> ty.Iterator[None]:
        """Have the disks of an instance for oneself among the threads of this worker.

        :raises errors.InstanceBusy: another thread has them.
        """
        with self._lock:
            if instance in self._taken:
                raise errors.InstanceBusy(instance=instance,
                                          reason="another snapshot or rollback is under way")
            self._taken.add(instance)
        try:
            yield
        finally:
            with self._lock:
                self._taken.discard(instance)

    def state(self, instance: str) -> GuestState:
        """What the guest does here, where nothing moves it.

        :raises errors.InstanceBusy: a migration is open here, or libvirt works on it.
        :raises errors.HypervisorUnavailable: it cannot be told.
        """
        for task in self._tasks_of(instance):
            if not task.is_closed:
                raise errors.InstanceBusy(
                    instance=instance,
                    reason=f"its migration {task.migration.key} is open here")
        return self.unmoved(instance)

    def unmoved(self, instance: str) -> GuestState:
        """What the guest does here, where libvirt has not begun to move it.

        :raises errors.InstanceBusy: libvirt works on it.
        :raises errors.HypervisorUnavailable: it cannot be told.
        """
        state = self._hypervisor.state(instance)
        if state in _MOVING or (state is not GuestState.ABSENT
                                and self._hypervisor.has_job(instance)):
            raise errors.InstanceBusy(instance=instance,
                                      reason=f"libvirt says that it is {state}, with a job on it")
        return state
