# SPDX-License-Identifier: Apache-2.0
"""The demo and the operator's commands as pictures for the manual: ``make picture``.

Each is a recording of what a terminal shows, as an SVG that asks nothing of
the network: rich's own template would fetch a font.
"""

import pathlib
import re

from rich.console import CONSOLE_SVG_FORMAT, Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

from devstack import lab as labs
from devstack.lab import worker as lab_workers

WIDTH = 100
_FONT_FACE = re.compile(r"@font-face \{\{.*?\}\}\s*", re.DOTALL)
_TEMPLATE = _FONT_FACE.sub("", CONSOLE_SVG_FORMAT).replace(
    "Fira Code, monospace", "ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace")

#: What an operator looks at first, with the columns that fit into a picture.
_COMMANDS = (
    ("status",),
    ("migration", "list", "-c", "Instance", "-c", "Role", "-c", "Peer", "-c", "Outcome"),
    ("migration", "show", "{migration}", "-c", "ms", "-c", "Step", "-c", "State"),
    ("trash", "list", "-c", "Id", "-c", "Bytes"),
)


def console(is_recorded: bool) -> Console:
    """Where the demo prints; a recorded one has the width of a picture."""
    if is_recorded:
        return Console(highlight=False, record=True, width=WIDTH)
    return Console(highlight=False)


def save(recorded: Console, path: pathlib.Path, title: str) -> None:
    """Write what ``recorded`` was given since the last picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    recorded.save_svg(str(path), title=title, theme=MONOKAI, code_format=_TEMPLATE,
                      unique_id=path.stem)


def show_commands(host: labs.Host, migration: str, recorded: Console) -> None:
    """Run the operator's commands on a host where workers still run, as they would be typed."""
    for number, command in enumerate(_COMMANDS):
        words = [word.format(migration=migration) for word in command]
        program, *configuration = lab_workers.program("rbd-workerctl"), *lab_workers.CONFIG_FILES
        printed = host.run([program, *configuration, *words]).stdout
        recorded.print(Text.assemble("\n" if number else "", (f"{host.name}# ", "bold green"),
                                     ("rbd-workerctl " + " ".join(words), "bold")))
        recorded.print(Text(printed.rstrip()), no_wrap=True, crop=False)
