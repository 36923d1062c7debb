# SPDX-License-Identifier: Apache-2.0
"""What journals and trashes say, drawn: one migration in a terminal, many in a page."""
