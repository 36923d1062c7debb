# SPDX-License-Identifier: Apache-2.0
"""``make chaos``: real kills on the lab while guests move, and what must hold afterwards."""
