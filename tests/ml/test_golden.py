"""A thousand steps on the compiled backend, a hundred on the reference: the published state, byte for byte."""

import pytest

from ml.backends import get_backend
from tests.support.golden import INTERVAL, SPECS, iterate_digests, read_digests


@pytest.mark.parametrize("name", SPECS)
def test_threat_31_a_thousand_steps_of_the_compiled_backend(name: str) -> None:
    assert dict(iterate_digests(name, get_backend("cpu"))) == read_digests(name)


@pytest.mark.parametrize("name", SPECS)
def test_a_hundred_steps_of_the_reference(name: str) -> None:
    expected = read_digests(name)
    assert dict(iterate_digests(name, get_backend("reference"), INTERVAL)) == {INTERVAL: expected[INTERVAL]}
