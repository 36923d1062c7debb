# SPDX-License-Identifier: Apache-2.0
"""rbd-worker beside an unmodified Nova 34: what Nova leaves alone, and what holds with it."""
