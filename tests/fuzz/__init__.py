# SPDX-License-Identifier: Apache-2.0
"""Hostile input for everything that reads what others wrote; ``__main__`` says how to run it."""
