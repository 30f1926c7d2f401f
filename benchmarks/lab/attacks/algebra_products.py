"""Threats 23, 24 and 26 against products that random vectors check: forged ones that a careless verifier does not see.

Each forgery is put before a verifier with one rule taken away, to show what the rule is for, and before the project's
own residues. It knows products and vectors, and no segment. Source: Freivalds 1977; Lenstra, Lenstra and Lovász 1982.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from benchmarks.lab.attacks.case import Attack, Effort, Ending, Outcome
from chain.errors import InvalidProof
from chain.hashing import tagged_hash
from ml.arithmetic import I8, I64, MANTISSA_MAX
from ml.backends.reference_freivalds import MODULUS, Product, compute_residues
from ml.freivalds import draw_vectors, validate_product

Reals = NDArray[np.float64]

ROWS, COLUMNS, DEPTH = 6, 12, 1024
SMALL_PRIME = 251


def make_product(seed: int, groups: int = 1) -> Product:
    """Return a right product of operands of training's kind."""
    rng = np.random.default_rng(seed)
    a, b = (
        rng.integers(-MANTISSA_MAX, MANTISSA_MAX, (groups * rows, DEPTH), np.int8, endpoint=True)
        for rows in (ROWS, COLUMNS)
    )
    parts = zip(np.split(a, groups), np.split(b, groups), strict=True)
    c = np.concatenate([left.astype(np.int32) @ right.astype(np.int32).T for left, right in parts])
    return Product(a, b, c, groups)


def draw(number: int) -> I64:
    """Return the vectors of a coin."""
    return draw_vectors(tagged_hash("coin", number.to_bytes(8, "little")), COLUMNS)


def is_refused(product: Product, vectors: I64) -> bool:
    """Say whether the verifier refuses a product under these vectors."""
    try:
        validate_product(product, compute_residues(product, vectors), "forged")
    except InvalidProof:
        return True
    return False


def forge(product: Product, difference: I64, row: int = 0) -> Product:
    """Return the product with a difference (columns,) added to one row."""
    c = product.c.copy()
    c[row] += difference.astype(np.int32)
    return replace(product, c=c)


def find_invisible(vectors: I64) -> I64:
    """Return a short integer row, not zero, whose products with both vectors are zero modulo p."""
    (x0, x1), (y0, y1) = vectors[:, :2].tolist()
    inverse = pow(x0 * y1 - x1 * y0, -1, MODULUS)
    basis = [[MODULUS, 0, 0, 0], [0, MODULUS, 0, 0]]
    for position, column in ((2, 2), (3, 3)):
        x, y = vectors[:, column].tolist()
        row = [(x1 * y - y1 * x) * inverse % MODULUS, (y0 * x - x0 * y) * inverse % MODULUS, 0, 0]
        row[position] = 1
        basis.append(row)
    short = np.zeros(vectors.shape[1], np.int64)
    short[:4] = min(reduce_basis(np.array(basis, np.float64)), key=lambda row: float(np.abs(row).max()))
    return short


def reduce_basis(basis: Reals) -> Reals:
    """Return a basis of short rows of the same lattice (LLL): four dimensions, entries that float64 holds exactly."""
    k = 1
    while k < len(basis):
        for j in range(k - 1, -1, -1):
            r = np.linalg.qr(basis.T).R
            basis[k] -= np.round(r[j, k] / r[j, j]) * basis[j]
        r = np.linalg.qr(basis.T).R
        if r[k, k] ** 2 + r[k - 1, k] ** 2 >= 0.75 * r[k - 1, k - 1] ** 2:
            k += 1
        else:
            basis[[k - 1, k]] = basis[[k, k - 1]]
            k = max(k - 1, 1)
    return basis


def list_forgeries(effort: Effort) -> Iterator[tuple[Product, I64]]:
    """Yield products forged against vectors that were known too early, with these vectors."""
    for number in range(max(4, effort.trials // 16)):
        product, vectors = make_product(number), draw(number)
        yield forge(product, find_invisible(vectors)), vectors


def judge_predicted(effort: Effort) -> Outcome:
    """Judge forgeries by the very vectors that they were made against."""
    verdicts = [is_refused(forged, vectors) for forged, vectors in list_forgeries(effort)]
    return Outcome(len(verdicts), sum(verdicts), None, None, "a lattice finds a difference that both vectors miss")


def judge_unpredicted(effort: Effort) -> Outcome:
    """Judge the same forgeries by vectors of a coin that was drawn after."""
    verdicts = [is_refused(forged, draw((1 << 32) + i)) for i, (forged, _) in enumerate(list_forgeries(effort))]
    return Outcome(len(verdicts), sum(verdicts), None, None, "a coin of later: one in 2^62 passes")


def judge_small_prime(effort: Effort) -> Outcome:
    """Grind products against one vector modulo a small prime."""
    rng = np.random.default_rng(effort.seed)
    differences = rng.integers(1, SMALL_PRIME, (8 * effort.trials, COLUMNS))
    vectors = rng.integers(0, SMALL_PRIME, differences.shape)
    detected = int(((differences * vectors).sum(axis=1) % SMALL_PRIME != 0).sum())
    verdict = f"one try in {SMALL_PRIME}; with two vectors modulo 2^31 - 1 one in 2^62"
    return Outcome(len(differences), detected, 1 - 1 / SMALL_PRIME, None, verdict)


def judge_even_modulus(effort: Effort) -> Outcome:
    """Hide half of an even modulus in one element: an even entry of the vector does not see it."""
    rng = np.random.default_rng(effort.seed)
    entries = rng.integers(0, 1 << 32, 8 * effort.trials, np.uint32)
    detected = int((entries * np.uint32(1 << 31) != 0).sum())
    return Outcome(len(entries), detected, 0.5, None, "2^32 as a modulus misses every second one: p is a prime")


def judge_half_modulus(effort: Effort) -> Outcome:
    """Hide powers of two in one element, against the prime modulus."""
    verdicts = []
    for number in range(max(8, effort.trials // 16)):
        difference = np.zeros(COLUMNS, np.int64)
        difference[number % COLUMNS] = 1 << number % 21
        product = make_product(number)
        sign = -1 if product.c[0, number % COLUMNS] > 0 else 1
        verdicts.append(is_refused(forge(product, sign * difference), draw(number)))
    return Outcome(len(verdicts), sum(verdicts), None, None, "no power of two is zero modulo a prime")


def list_wrapped(effort: Effort) -> list[Product]:
    """Return products with an element that is off by the modulus, or by what wraps around in 32 bits."""
    forged = []
    for number in range(max(8, effort.trials // 64)):
        product, difference = make_product(number), np.zeros(COLUMNS, np.int64)
        difference[number % COLUMNS] = MODULUS if product.c[0, number % COLUMNS] < 0 else -MODULUS
        forged.append(forge(product, difference))
    return forged


def judge_wrapped(effort: Effort) -> Outcome:
    """Judge products off by the modulus."""
    forged = list_wrapped(effort)
    refused = sum(is_refused(product, draw(number)) for number, product in enumerate(forged))
    return Outcome(len(forged), refused, None, None, "no element exceeds 63 x 63 x K: out of range before any algebra")


def judge_wrapped_unchecked(effort: Effort) -> Outcome:
    """Judge products off by the modulus by residues alone."""
    forged = list_wrapped(effort)
    seen = 0
    for number, product in enumerate(forged):
        vectors = draw(number)
        seen += bool(compute_bare_residues(product, vectors, evaluate(product.b, vectors)).any())
    return Outcome(len(forged), seen, None, None, "without a range check all pass: why there is one")


def judge_supplied(effort: Effort) -> Outcome:
    """Multiply by another B, and supply its evaluations to a verifier that asks for them."""
    seen, forgeries = 0, list_other_operands(effort)
    for number, (product, other_b) in enumerate(forgeries):
        vectors = draw(number)
        seen += bool(compute_bare_residues(product, vectors, evaluate(other_b, vectors)).any())
    return Outcome(len(forgeries), seen, None, None, "who supplies B's evaluation chooses B")


def judge_supplied_to_us(effort: Effort) -> Outcome:
    """Multiply by another B, before residues that take B's evaluation from the committed B."""
    forgeries = list_other_operands(effort)
    refused = sum(is_refused(product, draw(number)) for number, (product, _) in enumerate(forgeries))
    return Outcome(len(forgeries), refused, None, None, "the verifier evaluates the B whose root is committed")


def list_other_operands(effort: Effort) -> list[tuple[Product, I8]]:
    """Return products of A by another B than stands in them, and that B, which differs in one element."""
    found = []
    for number in range(max(8, effort.trials // 64)):
        product = make_product(number)
        other = product.b.copy()
        other[number % COLUMNS, number % DEPTH] ^= 1
        c = (product.a.astype(np.int32) @ other.astype(np.int32).T).astype(np.int32)
        found.append((replace(product, c=c), other))
    return found


def judge_cancelling_batch(effort: Effort) -> Outcome:
    """Put errors that cancel into rows and groups, before a verifier that adds all residues up."""
    seen, forgeries = 0, list_cancelling(effort)
    for number, product in enumerate(forgeries):
        residues = compute_residues(product, draw(number))
        seen += bool((residues.sum(axis=0) % MODULUS).any())
    return Outcome(len(forgeries), seen, None, None, "a plain sum over a batch sees none of them")


def judge_cancelling(effort: Effort) -> Outcome:
    """Put errors that cancel into rows and groups, before our verifier."""
    forgeries = list_cancelling(effort)
    refused = sum(is_refused(product, draw(number)) for number, product in enumerate(forgeries))
    return Outcome(len(forgeries), refused, None, None, "every row of every product has to be zero by itself")


def list_cancelling(effort: Effort) -> list[Product]:
    """Return products of two groups with errors that add up to zero over rows, or over groups."""
    found = []
    for number in range(max(8, effort.trials // 64)):
        product, difference = make_product(number, groups=2), np.zeros(COLUMNS, np.int64)
        difference[number % COLUMNS] = 1 + number
        other = ROWS + number % ROWS if number % 2 else 1 + number % (ROWS - 1)
        found.append(forge(forge(product, difference), -difference, other))
    return found


def evaluate(b: I8, vectors: I64) -> I64:
    """Return b (columns, K) transposed times each of two vectors, (2, K) modulo p."""
    return np.stack([(b.astype(np.int64) * vector[:, None]).sum(axis=0) % MODULUS for vector in vectors])


def compute_bare_residues(product: Product, vectors: I64, evaluations: I64) -> I64:
    """Return C v - A w modulo p, (rows, 2), with w as given and without a look at C's range."""
    rows = [
        (product.c * vector % MODULUS).sum(axis=1) - (product.a * evaluation).sum(axis=1)
        for vector, evaluation in zip(vectors, evaluations, strict=True)
    ]
    return np.stack(rows, axis=1) % MODULUS


INVISIBLE = "Find by lattice reduction a small difference whose products with both vectors are zero, and add it"
WRAPPED = "Add or take away the modulus, within what 32 bits hold"
SUPPLIED = "Serve the product of another B, and the evaluation that goes with it"
CANCELLING = "Add to one row what is taken from another, in one product or across two"
DETECTED, ACCEPTED = (Ending.DETECTED,), (Ending.ACCEPTED,)

ATTACKS: tuple[Attack, ...] = (
    Attack((23,), "vectors known before", INVISIBLE, "passes", ACCEPTED, judge_predicted),
    Attack((23,), "vectors known before: a coin of later", INVISIBLE, "refused", DETECTED, judge_unpredicted),
    Attack(
        (23,), "small modulus, one vector", "Try products until one passes a vector modulo 251", "as often as computed",
        (Ending.COMPUTED,), judge_small_prime,
    ),
    Attack(
        (23,), "even modulus", "Add half of the modulus to one element", "as often as computed", (Ending.COMPUTED,),
        judge_even_modulus,
    ),
    Attack(
        (23,), "even modulus: our prime", "Add a power of two to one element", "refused", DETECTED, judge_half_modulus
    ),
    Attack((23,), "wraparound", WRAPPED, "passes", ACCEPTED, judge_wrapped_unchecked),
    Attack((23,), "wraparound: range-checked", WRAPPED, "refused", DETECTED, judge_wrapped),
    Attack((24,), "evaluations of the prover", SUPPLIED, "passes", ACCEPTED, judge_supplied),
    Attack((24,), "evaluations of the prover: none taken", SUPPLIED, "refused", DETECTED, judge_supplied_to_us),
    Attack((26,), "errors that cancel: a sum", CANCELLING, "passes", ACCEPTED, judge_cancelling_batch),
    Attack((26,), "errors that cancel: our residues", CANCELLING, "refused", DETECTED, judge_cancelling),
)  # fmt: skip
