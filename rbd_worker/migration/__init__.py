# SPDX-License-Identifier: Apache-2.0
"""The life of one migration: plans, steps, journal, recovery."""
