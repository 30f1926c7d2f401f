"""Short vectors that two known vectors do not see: what a prover who knows his verifier's vectors adds to a product.

LLL reduction in exact rationals, for a dozen dimensions. Source: Lenstra, Lenstra and Lovász 1982.
"""

from collections.abc import Sequence
from fractions import Fraction

Row = list[int]


def find_invisible(vectors: Sequence[Sequence[int]], modulus: int) -> Row:
    """Return a short integer row that is not zero, whose products with both vectors are 0 modulo `modulus`."""
    first, second = vectors
    count = len(first)
    inverse = pow(first[0] * second[1] - first[1] * second[0], -1, modulus)
    basis = [[modulus, 0] + [0] * (count - 2), [0, modulus] + [0] * (count - 2)]
    for j in range(2, count):
        x = (first[1] * second[j] - second[1] * first[j]) * inverse % modulus
        y = (second[0] * first[j] - first[0] * second[j]) * inverse % modulus
        basis.append([x, y] + [int(k == j) for k in range(2, count)])
    return reduce_basis(basis)[0]


def reduce_basis(basis: list[Row]) -> list[Row]:
    """Return an LLL-reduced basis of the lattice of `basis`, with delta 3/4."""
    rows, k = [list(row) for row in basis], 1
    while k < len(rows):
        for j in range(k - 1, -1, -1):
            ratio = _get_ratio(rows, k, j)
            rows[k] = [a - round(ratio) * b for a, b in zip(rows[k], rows[j], strict=True)]
        orthogonal = _orthogonalise(rows[: k + 1])
        ratio = _get_ratio(rows, k, k - 1)
        if _dot(orthogonal[k], orthogonal[k]) >= (Fraction(3, 4) - ratio**2) * _dot(
            orthogonal[k - 1], orthogonal[k - 1]
        ):
            k += 1
        else:
            rows[k - 1], rows[k] = rows[k], rows[k - 1]
            k = max(k - 1, 1)
    return rows


def _get_ratio(rows: list[Row], k: int, j: int) -> Fraction:
    direction = _orthogonalise(rows[: j + 1])[j]
    return _dot([Fraction(x) for x in rows[k]], direction) / _dot(direction, direction)


def _orthogonalise(rows: list[Row]) -> list[list[Fraction]]:
    result: list[list[Fraction]] = []
    for row in rows:
        rest = [Fraction(x) for x in row]
        for other in result:
            ratio = _dot([Fraction(x) for x in row], other) / _dot(other, other)
            rest = [a - ratio * b for a, b in zip(rest, other, strict=True)]
        result.append(rest)
    return result


def _dot(left: Sequence[Fraction], right: Sequence[Fraction]) -> Fraction:
    return sum((a * b for a, b in zip(left, right, strict=True)), Fraction(0))
