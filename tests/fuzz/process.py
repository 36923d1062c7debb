# SPDX-License-Identifier: Apache-2.0
"""One fuzzing process: ``python -m tests.fuzz.process TARGET -- ARGUMENTS OF LIBFUZZER``.

The modules under test are instrumented while they are imported, so that
libFuzzer sees which lines an input reaches.
"""

import sys

import atheris

from tests.fuzz import mutate


def main(arguments: list[str]) -> None:
    with atheris.instrument_imports(include=["rbd_worker", "rpcapi"]):
        from tests.fuzz import targets
        target = targets.load(arguments[0])
    extra = {"custom_mutator": mutate.JsonMutator(target.words)} \
        if target.is_json else {}
    atheris.Setup([sys.argv[0], *arguments[2:]], target.one, **extra)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])
