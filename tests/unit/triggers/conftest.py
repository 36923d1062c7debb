# SPDX-License-Identifier: Apache-2.0
"""Hypothesis measures no time here: a busy machine is not a bug."""

import hypothesis

hypothesis.settings.register_profile(
    "rbd-worker", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("rbd-worker")
