"""No example has a deadline: kernels may compile inside one, and a loaded machine is no fault of the code.

`pytest --hypothesis-profile campaign` tries twenty times as many examples of every property. Files of slow tests come
first: two workers that take files in turn then end together. Linear algebra has one thread a worker: threads that wait
for each other on cores that all workers share would take most of its time.
"""

import os

import pytest
from hypothesis import settings

for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(name, "1")

settings.register_profile("mathesis", deadline=None)
settings.register_profile("campaign", deadline=None, max_examples=2_000)
settings.load_profile("mathesis")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    slow = {item.path for item in items if item.get_closest_marker("slow") is not None}
    items.sort(key=lambda item: item.path not in slow)
