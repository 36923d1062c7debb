# SPDX-License-Identifier: Apache-2.0
"""``make chaos-nova``: random kills while an unmodified Nova migrates, with workers beside it.

Follow one round: ``__main__`` draws it (``rounds.Draw``), ``rounds`` orders
the moves from nova-api on an ``arena``, ``faults`` strike, the arena mends in
random order, an ``operators.Operator`` does what Nova needs by hand, and
``invariants`` judges.
"""
