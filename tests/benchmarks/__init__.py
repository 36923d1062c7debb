# SPDX-License-Identifier: Apache-2.0
"""``make bench``: ours against what a user would pick instead, in the same run."""
