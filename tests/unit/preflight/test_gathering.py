# SPDX-License-Identifier: Apache-2.0
"""All hosts asked at once: whom to wait for, and who was too slow."""

import threading
import time

from rbd_worker.preflight.gathering import Gathering
from rpcapi import preflight as contract

TOKEN = "a" * 32


def heard(host: str, token: str = TOKEN) -> contract.Surveyed:
    return contract.Surveyed(token=token, host=host)


def answered(host: str, token: str = TOKEN, clock: float | None = None) -> contract.Surveyed:
    traits = contract.Traits(host=host, clock=time.time() if clock is None else clock)
    return contract.Surveyed(token=token, host=host, survey=contract.Survey(traits=traits))


def test_a_host_that_heard_and_did_not_answer_is_told_as_slow() -> None:
    gathering = Gathering("node1", TOKEN)
    for said in (heard("node2"), heard("node1"), answered("node1")):
        gathering.surveyed(said)
    gathering.wait_for_surveys(1.2)
    one, two = gathering.surveys()
    assert [survey.traits.host for survey in gathering.complete()] == ["node1"]
    assert (one.traits.host, two.traits.host) == ("node1", "node2")
    (row,) = two.rows
    assert (row.name, row.state) == ("worker.peer", "unknown")
    assert "did not answer in time" in row.found and "--source node2" in row.remedy


def test_whoever_heard_is_waited_for_however_long_the_others_are_silent() -> None:
    gathering = Gathering("node1", TOKEN)
    gathering.surveyed(heard("node1"))
    late = threading.Timer(1.8, gathering.surveyed, (answered("node1"),))
    late.start()
    gathering.wait_for_surveys(30)
    assert gathering.complete()
    late.join()


def test_an_answer_that_overtakes_the_word_that_it_was_heard_counts() -> None:
    gathering = Gathering("node1", TOKEN)
    gathering.surveyed(answered("node1"))
    gathering.surveyed(heard("node1"))
    assert gathering.complete()


def test_answers_to_an_older_question_are_dropped() -> None:
    gathering = Gathering("node1", TOKEN)
    gathering.surveyed(answered("node1", token="b" * 32))
    gathering.routes_tried(contract.RoutesTried(token="b" * 32, source="node1",
                                                destination="node2", rows=()))
    assert gathering.surveys() == () and gathering.routes() == ()


def test_a_clock_that_is_apart_is_a_row_of_that_host() -> None:
    gathering = Gathering("node1", TOKEN)
    gathering.surveyed(answered("node2", clock=time.time() - 3600))
    ((row,),) = [survey.rows for survey in gathering.surveys()]
    assert (row.name, row.state) == ("clock", "warning")
