# SPDX-License-Identifier: Apache-2.0
"""Three live migrations through two workers, on real parts, shown as they happen."""
