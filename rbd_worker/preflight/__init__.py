# SPDX-License-Identifier: Apache-2.0
"""Would a guest get from one host to another?  Looked at before it has to.

A reader starts with ``pair.Preflight``: it has both hosts take a ``survey`` of
themselves, tries the ``routes`` between them and compares their traits
(``comparisons``).  What is looked at stands in tables of checks, one module
for each subject.  Nothing here changes anything, and no row is ``ok`` unless
something was measured: what raises or takes too long is ``unknown``.
"""
