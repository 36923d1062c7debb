# SPDX-License-Identifier: Apache-2.0
"""``make chaos``: real kills on the lab while guests move, and what must hold afterwards.

Follow one round: ``__main__`` draws it (``rounds.Draw``), ``rounds`` runs it
on an ``arena``, one of ``faults`` strikes, the arena mends, ``invariants``
judges, ``summary`` counts.  ``beside_nova`` does the same with a real Nova.
"""
