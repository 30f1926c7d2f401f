"""Constants that kernels call kernels with: one variant serves all of them, where a kernel is not made to differ."""

from collections.abc import Callable, Sequence
from typing import Any, cast

import numba

from ml.backends.cpu.kernel import kernel, specialise

types = cast(Any, numba.types)


@kernel
def scale(x: int, pair: tuple[int, int], is_negative: bool) -> int:
    return -x * pair[0] if is_negative else x * pair[1]


@specialise("step")
def advance(x: int, step: int) -> int:
    return x + step


@kernel
def call_with_constants(x: int) -> int:
    return scale(x, (2, x), True) + scale(3, (x, 5), False) + advance(x, 1) + advance(x, 7)


def count_variants(function: Callable[..., object], calls: Sequence[tuple[object, ...]]) -> int:
    """Return how many variants the calls of kernels with such arguments take, compiled or from the cache."""
    dispatcher = cast(Any, function)
    for arguments in calls:
        dispatcher.get_call_template(arguments, {})
    return len(dispatcher.overloads)


def test_a_constant_makes_a_variant_of_a_specialised_kernel_alone() -> None:
    one, seven, pair = types.literal(1), types.literal(7), types.Tuple((types.literal(2), types.int64))
    calls = [(types.int64, pair, types.literal(True)), (one, types.UniTuple(types.int64, 2), types.boolean)]
    assert count_variants(scale, calls) == 1
    assert count_variants(advance, [(types.int64, one), (seven, one), (types.int64, seven)]) == 2


def test_constants_arrive_as_they_are() -> None:
    for x in (10, -3):
        assert call_with_constants(x) == -2 * x + 15 + x + 1 + x + 7
