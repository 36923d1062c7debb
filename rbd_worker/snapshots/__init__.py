# SPDX-License-Identifier: Apache-2.0
"""Snapshots of all RBD disks of an instance: taken, listed, removed, each as one.

``desk`` is what an operator reaches through RPC; it calls ``making`` and
``removing``, which act through ``freezer`` and :mod:`rbd_worker.host`.  What
has to survive the worker is written by ``ledger`` before it is done, and
``keeper`` puts right after a restart, and from time to time, what was left.
"""
