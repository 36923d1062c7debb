# SPDX-License-Identifier: Apache-2.0
"""The installed version, the same that setup.py gives."""

import importlib.metadata

try:
    VERSION = importlib.metadata.version("rbd-worker")
except importlib.metadata.PackageNotFoundError:  # run from a bare checkout
    VERSION = "unknown"
