"""`python -m benchmarks.gpu_kernels`: compile every Triton kernel for a Hopper GPU, on any machine.

It shows that each kernel is accepted by the whole tool chain down to machine code, which instructions it became and
what it takes of a multiprocessor. It launches nothing, needs no GPU and writes no file but Triton's cache.
"""

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, CompiledKernel

from ml.arithmetic import MANTISSA_BITS, MANTISSA_MAX, get_delta_max
from ml.backends.cuda import (
    blake3,
    elementwise,
    lottery_product,
    matmul,
    noise,
    norm,
    optimizer,
    quantise,
    softmax,
    tensor_hash,
)
from ml.backends.cuda.device import Kernel, divide_up
from ml.noise import ROLE_A, ROLE_B
from ml.spec import DELTA_BITS

HOPPER = GPUTarget("cuda", 90, 32)
_I8_POINTERS = ("a", "b", "mantissas", "left", "right", "operand", "laid", "wins", "choice", "across")
_U8_POINTERS = ("picks",)
_I16_POINTERS = ("dense", "draws")
_I64_POINTERS = ("sums", "table", "variances", "variances_after", "sources", "places")
_I64_NUMBERS = ("numerator",)
_UNALIGNED = (
    "key_low",
    "key_high",
    "first_row",
    "first_column",
    "shift",
    "correction",
    "rate",
    "decay_low",
    "decay_high",
    "first_node",
    "leaves",
    "stop",
    "levels",
    "first_a",
    "first_b",
    "first_window",
    "split",
    "blocks",
    "groups",
    "runs",
    "windows",
    "tile_columns",
)
_NUMBERS = (
    *("rows", "columns", "m", "n", "k", "half", "context", "width", "classes", "count", "scale"),
    *("row_bytes", "noised", "padded", "words"),
    *_UNALIGNED,
)

_FLOAT = re.compile(
    r"\b(?:add|sub|mul|div|fma|mad|cvt|min|max|setp|ex2|lg2|rcp|sqrt|rsqrt)[.\w]*\.(?:f16|bf16|f32|f64|tf32)"
)
"""Instructions of PTX that compute with floating-point numbers."""
_INTEGER_PRODUCT = re.compile(r"\b(?:wgmma\.mma_async|mma)\.sync[.\w]*\.s32\.s8\.s8")


@dataclass(frozen=True, slots=True)
class Variant:
    """A kernel with the flags and tile sizes of one launch."""

    name: str
    kernel: Kernel
    constants: dict[str, int | bool]
    warps: int = 4
    stages: int = 3
    types: dict[str, str] = field(default_factory=dict)
    """Of parameters whose type differs from launch to launch."""


@dataclass(frozen=True, slots=True)
class Report:
    """What a variant became."""

    name: str
    cubin_bytes: int
    shared_bytes: int
    registers: int
    """Of one thread."""
    spilled_bytes: int
    """Of one thread: what did not fit in registers."""
    has_integer_product: bool
    floats: tuple[str, ...]
    """Floating-point instructions in its PTX: none is allowed."""


def list_variants() -> Iterator[Variant]:
    """Yield every kernel, with each of its flags, in tiles as training launches them."""
    tile: dict[str, int | bool] = {"tile_rows": 2, "tile_columns": 1024}
    for bits, limit, before, stochastic in (
        (MANTISSA_BITS, MANTISSA_MAX, False, False),
        (MANTISSA_BITS, MANTISSA_MAX, False, True),
        *((bits - 1, get_delta_max(bits), True, False) for bits in DELTA_BITS),
    ):
        flags = {"bits": bits, "mantissa_max": limit, "is_stochastic": stochastic, "has_before": before}
        yield Variant("quantise-rows", quantise._quantise_rows, flags | tile)
    square: dict[str, int | bool] = {"tile_rows": 64, "tile_columns": 64}
    yield Variant("column-exponents", quantise._compute_exponents, {"part_rows": 256} | square)
    for stochastic in (False, True):
        yield Variant("quantise-transposed", quantise._quantise_transposed, {"is_stochastic": stochastic} | square)
    for side in (4096, 64):
        for rescaled, causal in ((False, False), (True, False), (True, True)):
            chosen = matmul.choose_tile(side, side, side)
            sizes = {"tile_m": chosen.rows, "tile_n": chosen.columns, "tile_k": chosen.depth}
            flags = {"is_rescaled": rescaled, "is_causal": causal}
            yield Variant(f"multiply-{side}", matmul._multiply, flags | sizes, chosen.warps, chosen.stages)
    yield Variant("rescale", matmul._rescale_product, tile)
    for rule in elementwise.Rule:
        constants: dict[str, int | bool] = {"rule": int(rule), "block": 1024}
        yield Variant(rule.name.lower().replace("_", "-"), elementwise._apply, constants)
    for flag in (False, True):
        yield Variant("rotate", elementwise._rotate, {"is_inverse": flag} | square)
        yield Variant("embed", elementwise._embed, {"has_positions": flag} | tile)
    yield Variant("add-columns", elementwise._add_columns, square)
    yield Variant("round-sums", elementwise._round_sums, {"block": 1024})
    yield Variant("normalise", norm._normalise, tile)
    yield Variant("normalise-backward", norm._normalise_backward, tile)
    yield Variant("causal-softmax", softmax._causal_softmax, tile)
    yield Variant("causal-softmax-backward", softmax._causal_softmax_backward, tile)
    yield Variant("loss", softmax._compute_loss, {"tile_rows": 8, "tile_columns": 256})
    yield Variant("adam", optimizer._update_adam, {"block": 1024})
    yield from list_hashes()
    yield from list_lottery()


def list_hashes() -> Iterator[Variant]:
    """Yield the kernels of tensor roots."""
    threads = {"threads": blake3.THREADS}
    for is_aligned in (True, False):
        flags = {"mode": blake3.KEYED.value, "is_aligned": is_aligned}
        yield Variant("hash-rows", blake3._hash_rows, flags | threads)
    yield Variant("hash-leaves", tensor_hash._hash_leaves, dict(threads))
    yield Variant("hash-level", tensor_hash._hash_level, dict(threads))
    top = {"threads": tensor_hash._TOP_NODES}
    yield Variant("hash-top", tensor_hash._hash_top, top, tensor_hash._TOP_NODES // 32)
    yield Variant("bind-roots", tensor_hash._bind_roots, dict(threads))


def list_lottery() -> Iterator[Variant]:
    """Yield the kernels of the lottery, for each rank."""
    threads = {"threads": blake3.THREADS}
    streams = {"role_a": ROLE_A.choice, "role_b": ROLE_B.choice, "blocks": divide_up(2 * 128 + 128 // 8, 64)}
    yield Variant("fill-streams", noise._fill_streams, streams | threads)
    for rank in (32, 64, 128):
        flags = {"rank": rank, "tile_groups": noise._TILE_ELEMENTS // rank}
        yield Variant(f"shuffle-{rank}", noise._shuffle, flags, types={"streams": "*i16"})
        yield Variant(f"write-out-{rank}", noise._write_out, {"rank": rank, "steps": len(ROLE_B.steps)})
        yield from list_products(rank, has_product=True)
    yield from list_products(128, has_product=False)
    yield Variant("draw-tickets", lottery_product._draw_tickets, dict(threads))


def list_products(rank: int, *, has_product: bool) -> Iterator[Variant]:
    """Yield what lays out operands and multiplies them; in several windows where the rank is 128."""
    for is_left, (tile_rows, warps) in ((True, noise.choose_tile(4096)), (False, noise.choose_tile(64))):
        steps = len((ROLE_A if is_left else ROLE_B).steps)
        flags = {"is_left": is_left, "has_factors": has_product, "rank": rank, "steps": steps, "tile_rows": tile_rows}
        yield Variant(f"lay-out-{rank}", noise._lay_out, flags, warps)
    tile = lottery_product.choose_tile(4096, 4096)
    sizes = {"rank": rank, "tile_m": tile.rows, "tile_n": tile.columns}
    flags = {"has_product": has_product, "is_one_window": rank < 128} | sizes
    yield Variant(f"multiply-mined-{rank}", lottery_product._mine, flags, tile.warps, tile.stages)


def _get_type(name: str, variant: Variant) -> str:
    if name in variant.constants:
        return "constexpr"
    if name in variant.types:
        return variant.types[name]
    for names, pointer in ((_I8_POINTERS, "*i8"), (_U8_POINTERS, "*u8"), (_I16_POINTERS, "*i16")):
        if name in names:
            return pointer
    if name in _I64_POINTERS:
        return "*i64"
    if name in _I64_NUMBERS:
        return "i64"
    return "i32" if name in _NUMBERS else "*i32"


_USAGE = re.compile(r"REG:(\d+) STACK:(\d+)")


def read_usage(cubin: bytes) -> tuple[int, int]:
    """Return registers and bytes of stack of one thread."""
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [str(tool), "--dump-resource-usage", file.name]
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = _USAGE.search(text)
    assert found is not None, text
    return int(found[1]), int(found[2])


def compile_for_hopper(variant: Variant) -> CompiledKernel:
    """Return the variant in all of Triton's stages, down to machine code."""
    names = variant.kernel.arg_names
    signature = {name: _get_type(name, variant) for name in names}
    aligned = [
        (place,) for place, name in enumerate(names) if name not in (*variant.constants, *_UNALIGNED, *_I64_NUMBERS)
    ]
    source = ASTSource(
        variant.kernel, signature, variant.constants, {place: [["tt.divisibility", 16]] for place in aligned}
    )
    return triton.compile(source, target=HOPPER, options={"num_warps": variant.warps, "num_stages": variant.stages})


def compile_variant(variant: Variant) -> Report:
    """Return what the variant becomes on a Hopper GPU."""
    compiled = compile_for_hopper(variant)
    ptx: str = compiled.asm["ptx"]
    return Report(
        variant.name,
        len(compiled.asm["cubin"]),
        compiled.metadata.shared,
        *read_usage(compiled.asm["cubin"]),
        _INTEGER_PRODUCT.search(ptx) is not None,
        tuple(sorted(set(_FLOAT.findall(ptx)))),
    )


def main() -> int:
    """Compile all, one line each; return the exit code: 1 when a kernel computes with floats."""
    print(f"{'kernel':<26}{'cubin B':>9}{'shared B':>10}{'registers':>11}{'stack B':>9}  tensor cores  floats")
    floats = 0
    for variant in list_variants():
        report = compile_variant(variant)
        floats += len(report.floats)
        product = "int8" if report.has_integer_product else "-"
        sizes = f"{report.shared_bytes:>10}{report.registers:>11}{report.spilled_bytes:>9}"
        row = f"{report.name:<26}{report.cubin_bytes:>9}{sizes}  {product:<12}"
        print(row, ", ".join(report.floats) or "none", flush=True)
    return min(floats, 1)


if __name__ == "__main__":
    sys.exit(main())
