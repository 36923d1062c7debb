# SPDX-License-Identifier: Apache-2.0
"""What comes in: casts, calls of peers, events of libvirt."""
