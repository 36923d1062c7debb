# SPDX-License-Identifier: Apache-2.0
"""``serve.py MODULE ADDRESS PORT``: serve a WSGI module's ``application`` with waitress.

Runs in Nova's environment.  Nova's WSGI modules read ``sys.argv``, which is
therefore emptied before they are imported.
"""

import importlib
import sys


def main() -> None:
    module, address, port = sys.argv[1:]
    sys.argv = [module]
    application = importlib.import_module(module).application
    import waitress  # type: ignore[import-untyped]
    waitress.serve(application, host=address, port=int(port), threads=8, channel_timeout=600)


if __name__ == "__main__":
    main()
