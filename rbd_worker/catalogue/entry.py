# SPDX-License-Identifier: Apache-2.0
"""What is known of one message."""

import dataclasses
import functools
import re


@dataclasses.dataclass(frozen=True)
class Entry:
    """One message.

    :ivar name: for ``explain NAME``, and the anchor in the manual.
    :ivar origin: the program whose words they are.
    :ivar example: as that program writes it; ``pattern`` finds it.
    :ivar pattern: a regular expression for any part of a line; empty for a
        message without words of its own, which is found by its name only.
    :ivar link: where more is said; empty where nothing is.
    """

    name: str
    origin: str
    example: str
    pattern: str
    cause: str
    remedy: str
    link: str = ""

    @functools.cached_property
    def _expression(self) -> "re.Pattern[str] | None":
        return re.compile(self.pattern, re.IGNORECASE) if self.pattern else None

    def matches(self, line: str) -> bool:
        return self._expression is not None and self._expression.search(line) is not None
