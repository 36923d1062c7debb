# SPDX-License-Identifier: Apache-2.0
"""From a fresh Debian 12 to a working checkout: ``python3 -m devstack.setup``."""
