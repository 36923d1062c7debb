# SPDX-License-Identifier: Apache-2.0
"""How long the tap rests between two attempts to reach a broker that is away.

Nobody listens at the port, so that each attempt fails at once; the pauses are
written down instead of being waited for.
"""

import socket
import threading

from rbd_worker.triggers import broker, tap

ATTEMPTS = 60
#: As oslo.messaging has them: rabbit_retry_interval, rabbit_retry_backoff, rabbit_interval_max.
START, STEP, LONGEST = 1.0, 2.0, 30.0


class _Rests(threading.Event):
    """Ends the tap's thread after so many pauses."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.pauses: list[float] = []
        self._most = most

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self.pauses.append(timeout)
        return len(self.pauses) == self._most


def _pauses(hosts: int = 1, attempts: int = ATTEMPTS) -> list[float]:
    with socket.socket() as bound:  # bound, but nobody listens
        bound.bind(("127.0.0.1", 0))
        nobody = broker.BrokerHost("127.0.0.1", bound.getsockname()[1])
        one = tap.Tap(broker.BrokerSettings(hosts=(nobody,) * hosts, retry_start=START,
                                            retry_step=STEP, retry_max=LONGEST),
                      "node1", tap.TapOptions(), lambda body: None)
        one._stop = rests = _Rests(attempts)  # type: ignore[assignment]
        one._run()
        return rests.pauses


def test_pauses_grow_to_a_bound_and_stay_there() -> None:
    pauses = _pauses()
    for number, pause in enumerate(pauses):
        full = min(LONGEST, START + STEP * number)
        assert full / 2 <= pause <= full
    assert max(pauses[:3]) < min(pauses[20:])


def test_hosts_that_lost_the_broker_together_do_not_come_back_together() -> None:
    """A jitter as wide as half of the pause spreads them."""
    hosts = [_pauses(attempts=30) for _ in range(20)]
    firsts, lasts = [pauses[0] for pauses in hosts], [pauses[-1] for pauses in hosts]
    assert len(set(firsts)) == len(set(lasts)) == len(hosts)
    assert max(firsts) - min(firsts) > START / 10
    assert max(lasts) - min(lasts) > LONGEST / 10


def test_a_node_of_a_cluster_is_tried_at_once_and_a_whole_round_is_rested_after() -> None:
    pauses = _pauses(hosts=3, attempts=12)
    assert [pause == 0 for pause in pauses] == [True, True, False] * 4
    assert START / 2 <= pauses[2] <= START
    assert pauses[5] > pauses[2]
