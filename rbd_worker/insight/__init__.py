# SPDX-License-Identifier: Apache-2.0
"""What the worker tells of itself: metrics and health, for machines that watch it."""
