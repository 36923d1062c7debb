# SPDX-License-Identifier: Apache-2.0
"""``python -m tests.benchmarks [NAME ...] [--json FILE]``: all, or those named."""

import argparse
import dataclasses
import json
import pathlib
import sys
import tempfile

from rich.console import Console

from devstack import lab as labs
from tests.benchmarks import prepare, tap

ALL = {"prepare": prepare.run, "tap": tap.run}


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("name", nargs="*", choices=[*ALL, []], help="which (default: all)")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE",
                        help="write every single figure there, too")
    arguments = parser.parse_args()
    console = Console(highlight=False)
    lab = labs.up(root=pathlib.Path(tempfile.mktemp(prefix="rbdw-bench-", dir="/var/tmp")),
                  on_progress=console.print)
    try:
        figures = {name: [dataclasses.asdict(series) for series in ALL[name](lab, console)]
                   for name in arguments.name or ALL}
    finally:
        lab.down()
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
