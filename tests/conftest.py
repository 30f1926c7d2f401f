"""No example has a deadline: kernels may compile inside one, and a loaded machine is no fault of the code."""

from hypothesis import settings

settings.register_profile("mathesis", deadline=None)
settings.load_profile("mathesis")
