# SPDX-License-Identifier: Apache-2.0
"""What surrounds the worker on a developer's machine: the lab, the demo, the set-up."""
