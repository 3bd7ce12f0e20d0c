"""What holds for every test."""

from __future__ import annotations

from hypothesis import settings

# A deadline for each example is a timed test, and this machine may be busy.
settings.register_profile("trunkline", deadline=None)
settings.load_profile("trunkline")
