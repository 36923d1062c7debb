# SPDX-License-Identifier: Apache-2.0
"""``python -m devstack.gate build|up|status|boot NAME HOST|live-migrate UUID HOST``

By hand what tests/gate does by itself.  The lab is started where none runs;
``python3 -m devstack.lab down`` ends all of it.
"""

import argparse
import sys

from devstack import gate, lab
from devstack.gate import environment


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m devstack.gate", description=__doc__)
    parser.add_argument("what", choices=("build", "up", "status", "boot", "live-migrate"))
    parser.add_argument("arguments", nargs="*")
    given = parser.parse_args()
    try:
        if given.what == "build":
            environment.ensure()
        elif given.what == "up":
            gate.up(lab.up(on_progress=print), on_progress=print)
        else:
            _ask(gate.attach(lab.attach()), given.what, given.arguments)
    except (lab.LabError, gate.ApiError, gate.CannotBuild) as e:
        print(f"gate: {e}", file=sys.stderr)
        return 1
    return 0


def _ask(cloud: gate.Cloud, what: str, arguments: list[str]) -> None:
    match what:
        case "boot":
            name, host = arguments
            print(cloud.boot(name, host))
        case "live-migrate":
            uuid, destination = arguments
            print(cloud.live_migrate(uuid, destination))
        case _:
            for uuid in cloud.api.servers():
                print(cloud.show(uuid), "directories:", cloud.directories(uuid))


if __name__ == "__main__":
    sys.exit(main())
