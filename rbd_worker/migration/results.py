# SPDX-License-Identifier: Apache-2.0
"""What a step may answer, apart from an error."""

import dataclasses
import typing as ty

from rbd_worker.model import Outcome


@dataclasses.dataclass(frozen=True)
class Done:
    """The state the step is named for holds; ``data`` goes into its record (JSON types)."""

    data: dict[str, ty.Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Wait:
    """Not yet: look again at the next event, or after ``seconds`` at the latest."""

    seconds: float
    reason: str


@dataclasses.dataclass(frozen=True)
class TurnBack:
    """The guest stays at the source: undo, and close with ``outcome``."""

    outcome: Outcome
    reason: str


Result = Done | Wait | TurnBack
