"""Kernels may compile inside a test's first example, so examples here have no deadline.

Nothing else is shared: what a test needs stands in its own file.
"""

from hypothesis import settings

settings.register_profile("ml", deadline=None)
settings.load_profile("ml")
