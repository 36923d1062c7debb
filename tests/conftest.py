# SPDX-License-Identifier: Apache-2.0
"""For all tests: oslo.service is told to use threads before oslo.messaging is imported."""

import rpcapi  # noqa: F401
