# SPDX-License-Identifier: Apache-2.0
"""Hostile input for everything that reads what others wrote; see ``__main__`` for how to run it."""
