# SPDX-License-Identifier: Apache-2.0
"""Calls hooks in turn as libvirt does, and prints each call's milliseconds as JSON.

``ROUNDS XML CANDIDATES``: the file that is their stdin, and a JSON object of
name to command.  Standard library only: it runs inside a host of the lab.
"""

import json
import subprocess
import sys
import time


def main() -> None:
    rounds, xml, candidates = int(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
    figures: dict[str, list[float]] = {name: [] for name in candidates}
    for number in range(rounds + 1):
        for name, command in candidates.items():
            with open(xml, "rb") as stdin:
                began = time.perf_counter()
                subprocess.run(command, stdin=stdin, stdout=subprocess.DEVNULL, check=True,
                               timeout=20)
                took = (time.perf_counter() - began) * 1000
            if number:  # the first round only warms the caches
                figures[name].append(took)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
