# SPDX-License-Identifier: Apache-2.0
"""What comes in: Nova's messages, the calls of peers, libvirt's events, the hook."""

import rpcapi  # noqa: F401 - tells oslo.service to use threads before oslo.messaging asks
