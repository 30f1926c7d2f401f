"""The arithmetic of one place of each kind of batched check, for CPUs and for GPUs alike.

Every function takes the place's number and the arrays of its batch, in the order in which `ml.backends.cpu.checks`
lists them, and says whether the place holds. Twins of `ml.backends.reference_checks`.
"""

import numpy as np

from ml import arithmetic
from ml.arithmetic import INT32_MAX, MANTISSA_BITS
from ml.backends.batched_checks import DIFFERENCE_MAX, EXPONENT_MAX, VARIANCE_MAX, Arrays
from ml.backends.cpu.kernel import kernel
from ml.backends.cpu.portable import (
    compute_exp2_one,
    compute_log2_one,
    compute_norm_one,
    compute_reciprocal_root_one,
    count_bits,
    get_higher,
    get_lower,
    saturate_one,
    scale_shift_one,
)
from ml.backends.cpu.scalar import (
    compute_prf_scalar,
    compute_rounding_word,
    round_shift_scalar,
    widen,
)
from ml.rotary import ROTATION_BITS

_ACTIVATION_BITS, _P_BITS = arithmetic.ACTIVATION_BITS, arithmetic.PROBABILITY_BITS
_P_DROP, _P_ONE = 62 - arithmetic.PROBABILITY_BITS, 1 << arithmetic.PROBABILITY_BITS
_SCORE_DROP = arithmetic.PROBABILITY_BITS + arithmetic.GRADIENT_BITS - arithmetic.SCORE_GRADIENT_BITS
_EMBED_SHIFT = arithmetic.WEIGHT_BITS - arithmetic.ACTIVATION_BITS
_LOG2_E, _LOG2_ONE = arithmetic.LOG2_E_F30, arithmetic.EXP2_BITS << 16
_GRADIENT_MAX, _VARIANCE_FLOOR = arithmetic.WEIGHT_GRADIENT_MAX, arithmetic.VARIANCE_FLOOR
_MEAN_BITS, _MEAN_SHIFT, _VARIANCE_SHIFT = arithmetic.MEAN_BITS, arithmetic.MEAN_SHIFT, arithmetic.VARIANCE_SHIFT
_UPDATE_MAX, _CORRECTION_BITS = arithmetic.UPDATE_MAX, arithmetic.CORRECTION_BITS
_MASK_32, _SHIFT_32 = np.uint64(0xFFFFFFFF), np.uint64(32)


@kernel
def is_linear(place: int, arrays: Arrays) -> bool:
    """Say whether an element of a product holds."""
    a, b, claimed, starts, settings = arrays
    a_exponent, b_exponent = settings[place, 0], settings[place, 1]
    if get_lower(a_exponent, b_exponent) < 0 or get_higher(a_exponent, b_exponent) > EXPONENT_MAX:
        return False
    total = 0
    for i in range(starts[place], starts[place + 1]):
        total += widen(a[i]) * widen(b[i])
    if settings[place, 3] != 0:
        return widen(claimed[place]) == 0
    shift = get_higher(settings[place, 2] - a_exponent - b_exponent, -31)
    return widen(claimed[place]) == saturate_one(scale_shift_one(total, shift))


@kernel
def is_quantised(place: int, arrays: Arrays) -> bool:
    """Say whether a row of mantissas, or the start of one, and its exponent hold."""
    x, mantissas, starts, settings, keys = arrays
    start, bits = starts[place], settings[place, 0]
    low_x, high_x = (-DIFFERENCE_MAX, DIFFERENCE_MAX) if bits != MANTISSA_BITS else (-(1 << 31), INT32_MAX)
    tallest = 0
    for i in range(start, starts[place + 1]):
        if x[i] < low_x or x[i] > high_x:
            return False
        tallest = get_higher(tallest, abs(x[i]))
    exponent = get_higher(0, count_bits(tallest) - bits)
    if settings[place, 2] != exponent:
        return False
    word = compute_prf_scalar(keys[place], np.uint64(settings[place, 4]))
    low, high = np.uint32(word & _MASK_32), np.uint32(word >> _SHIFT_32)
    highest, addend = (1 << bits) - 1, (1 << exponent) >> 1
    for j in range(settings[place, 1]):
        if settings[place, 3] != 0:
            drawn = compute_rounding_word(low, high, np.uint32(settings[place, 5] + j))
            addend = widen(drawn) & ((1 << exponent) - 1)
        mantissa = (x[start + j] + addend) >> exponent
        if widen(mantissas[start + j]) != get_lower(get_higher(mantissa, -highest), highest):
            return False
    return True


@kernel
def _compute_element(rule: int, x: int, y: int) -> int:
    if rule == 0:
        return get_higher(x, 0)
    if rule == 1:
        return x if y > 0 else 0
    if rule == 2:
        return saturate_one(round_shift_scalar(get_higher(x, 0) * get_higher(x, 0), _ACTIVATION_BITS))
    if rule == 3:
        return saturate_one(round_shift_scalar(get_higher(y, 0) * x, _ACTIVATION_BITS - 1))
    return saturate_one(x + y)


@kernel
def is_elementwise(place: int, arrays: Arrays) -> bool:
    """Say whether a block of an elementwise op holds."""
    first, second, claimed, starts, rules = arrays
    for i in range(starts[place], starts[place + 1]):
        if widen(claimed[i]) != _compute_element(rules[place], widen(first[i]), widen(second[i])):
            return False
    return True


@kernel
def is_normalised(place: int, arrays: Arrays) -> bool:
    """Say whether a row of a normalisation, or of its backward pass, holds; the roots of widths come last."""
    x, gradient, claimed, starts, is_backward, root_widths = arrays
    start, stop = starts[place], starts[place + 1]
    drop, reciprocal, shift = compute_norm_one(x, start, stop, root_widths[place])
    mean = 0
    if is_backward[place] != 0:
        total = 0
        for i in range(start, stop):
            y = saturate_one(round_shift_scalar(round_shift_scalar(widen(x[i]), drop) * reciprocal, shift))
            total += widen(gradient[i]) * y
        magnitude = abs(total) // (stop - start)
        mean = round_shift_scalar(-magnitude if total < 0 else magnitude, _ACTIVATION_BITS)
    for i in range(start, stop):
        y = saturate_one(round_shift_scalar(round_shift_scalar(widen(x[i]), drop) * reciprocal, shift))
        expected = y
        if is_backward[place] != 0:
            rest = saturate_one(widen(gradient[i]) - round_shift_scalar(y * mean, _ACTIVATION_BITS))
            expected = saturate_one(round_shift_scalar(rest * reciprocal, shift + drop))
        if widen(claimed[i]) != expected:
            return False
    return True


@kernel
def is_softmax(place: int, arrays: Arrays) -> bool:
    """Say whether a row of attention's softmax holds; settings are positions and scales, the table comes last."""
    scores, claimed, starts, settings, table = arrays
    start, seen, scale = starts[place], starts[place] + settings[place, 0] + 1, settings[place, 1]
    highest, total = widen(scores[start]), 0
    for i in range(start, seen):
        highest = get_higher(highest, widen(scores[i]))
    for i in range(start, seen):
        total += compute_exp2_one(round_shift_scalar((highest - widen(scores[i])) * scale, 22), table)
    reciprocal = (1 << 62) // total
    for i in range(start, starts[place + 1]):
        expected = 0
        if i < seen:
            term = compute_exp2_one(round_shift_scalar((highest - widen(scores[i])) * scale, 22), table)
            expected = (term * reciprocal) >> _P_DROP
        if widen(claimed[i]) != expected:
            return False
    return True


@kernel
def is_softmax_backward(place: int, arrays: Arrays) -> bool:
    """Say whether a row of the softmax's backward pass holds; the last array is 1 / sqrt(head width) in F16."""
    probabilities, gradient, claimed, starts, scales = arrays
    total = 0
    for i in range(starts[place], starts[place + 1]):
        p = widen(probabilities[i])
        if p < 0 or p > _P_ONE:
            return False
        total += p * widen(gradient[i])
    mean = round_shift_scalar(total, _P_BITS)
    for i in range(starts[place], starts[place + 1]):
        rest = round_shift_scalar(widen(probabilities[i]) * (widen(gradient[i]) - mean), _SCORE_DROP)
        if widen(claimed[i]) != saturate_one(round_shift_scalar(rest * scales[place], 16)):
            return False
    return True


@kernel
def is_loss(place: int, arrays: Arrays) -> bool:
    """Say whether a row of the loss's gradient, and the loss, hold; the table comes last."""
    z, claimed, starts, settings, table = arrays
    start, stop, label = starts[place], starts[place + 1], settings[place, 0]
    if label < 0 or label >= stop - start:
        return False
    highest, total = widen(z[start]), 0
    for i in range(start, stop):
        highest = get_higher(highest, widen(z[i]))
    for i in range(start, stop):
        total += compute_exp2_one(round_shift_scalar((highest - widen(z[i])) * _LOG2_E, 22), table)
    reciprocal = (1 << 62) // total
    for i in range(start, stop):
        term = compute_exp2_one(round_shift_scalar((highest - widen(z[i])) * _LOG2_E, 22), table)
        expected = ((term * reciprocal) >> _P_DROP) - (_P_ONE if i - start == label else 0)
        if widen(claimed[i]) != expected:
            return False
    power = round_shift_scalar((highest - widen(z[start + label])) * _LOG2_E, 22)
    loss = compute_log2_one(total) - _LOG2_ONE + round_shift_scalar(power, 8)
    return bool(settings[place, 1] == saturate_one(get_higher(loss, 0)))


@kernel
def _is_i32(x: int) -> bool:
    return -INT32_MAX <= x <= INT32_MAX


@kernel
def _is_adam_element(
    before: tuple[int, int, int, int], after: tuple[int, int, int], rates: tuple[int, int, int]
) -> bool:
    w, m, v, gradient = before
    correction, rate, decay = rates
    g = get_lower(get_higher(gradient, -_GRADIENT_MAX), _GRADIENT_MAX)
    mean = m + round_shift_scalar((g << _MEAN_BITS) - m, _MEAN_SHIFT)
    variance = v + round_shift_scalar(g * g - v, _VARIANCE_SHIFT)
    reciprocal, shift = compute_reciprocal_root_one(variance + _VARIANCE_FLOOR)
    quotient = get_lower((abs(mean) * reciprocal) >> (shift - (16 - _MEAN_BITS)), _UPDATE_MAX)
    update = (quotient * correction) >> _CORRECTION_BITS
    update = -update if mean < 0 else update
    moved = saturate_one(w - round_shift_scalar(update * rate, 24) - round_shift_scalar(w * decay, 32))
    return after[0] == moved and after[1] == mean and after[2] == variance


@kernel
def is_adam(place: int, arrays: Arrays) -> bool:
    """Say whether a block of the optimizer holds; settings are corrections, rates and decays."""
    before, after, starts, settings = arrays
    rates = settings[place, 0], settings[place, 1], settings[place, 2]
    for i in range(starts[place], starts[place + 1]):
        w, m, v, gradient = before[0, i], before[1, i], before[2, i], before[3, i]
        if not (_is_i32(w) and _is_i32(m) and _is_i32(gradient) and 0 <= v < VARIANCE_MAX):
            return False
        if not _is_adam_element((w, m, v, gradient), (after[0, i], after[1, i], after[2, i]), rates):
            return False
    return True


@kernel
def is_rotated(place: int, arrays: Arrays) -> bool:
    """Say whether a row of a rotation holds."""
    x, turns, claimed, starts, is_inverse = arrays
    start = starts[place]
    half = (starts[place + 1] - start) // 2
    for j in range(half):
        first, second = widen(x[start + j]), widen(x[start + half + j])
        c, s = widen(turns[0, start // 2 + j]), widen(turns[1, start // 2 + j])
        s = -s if is_inverse[place] != 0 else s
        left = saturate_one(round_shift_scalar(first * c - second * s, ROTATION_BITS))
        right = saturate_one(round_shift_scalar(first * s + second * c, ROTATION_BITS))
        if widen(claimed[start + j]) != left or widen(claimed[start + half + j]) != right:
            return False
    return True


@kernel
def is_embedded(place: int, arrays: Arrays) -> bool:
    """Say whether a block of an embedding holds."""
    parts, claimed, starts = arrays
    for i in range(starts[place], starts[place + 1]):
        total = widen(parts[0, i]) + widen(parts[1, i])
        if widen(claimed[i]) != saturate_one(round_shift_scalar(total, _EMBED_SHIFT)):
            return False
    return True


@kernel
def is_sum(place: int, arrays: Arrays) -> bool:
    """Say whether an element of the gradient of an embedding holds."""
    values, hits, starts, settings = arrays
    total = 0
    for i in range(starts[place], starts[place + 1]):
        total += widen(values[i]) if hits[i] != 0 else 0
    return bool(settings[place, 1] == saturate_one(round_shift_scalar(total, settings[place, 0])))


@kernel
def is_equal(place: int, arrays: Arrays) -> bool:
    """Say whether elements were moved and not changed."""
    found, expected, starts = arrays
    differences = 0
    for i in range(starts[place], starts[place + 1]):
        differences += found[i] != expected[i]
    return bool(differences == 0)
