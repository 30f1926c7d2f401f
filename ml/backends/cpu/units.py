"""Which of the machine's units multiply int8 in the lottery: AMX tiles, AVX-512 VNNI, or plain vectors.

All three give the same bytes. A kernel holds code for every unit that its machine has and is told at run time which to
use; code for a unit that the machine lacks is never emitted. Source: Intel SDM volume 1, chapter 18 (AMX); Linux,
Documentation/arch/x86/xstate.rst (permission to use tile data).
"""

import ctypes
import sys
from functools import cache

import numpy as np
from numba.core.registry import cpu_target
from numpy.typing import NDArray

PORTABLE, VNNI, AMX = 0, 1, 2
UNIT_NAMES = ("portable vectors", "AVX-512 VNNI", "AMX")

_NEEDS = {VNNI: ("avx512f", "avx512vnni"), AMX: ("avx512f", "amx-tile", "amx-int8")}
_ARCH_PRCTL, _ASK_PERMISSION, _TILE_DATA = 158, 0x1023, 18


def has_features(*names: str) -> bool:
    """Say whether kernels may use all these instruction sets on this machine, by LLVM's names."""
    enabled = str(cpu_target.target_context.codegen().magic_tuple()[2]).split(",")
    return all(f"+{name}" in enabled for name in names)


def can_emit(unit: int) -> bool:
    """Say whether LLVM knows this machine to have what `unit` needs."""
    return unit == PORTABLE or has_features(*_NEEDS[unit])


@cache
def get_units() -> tuple[int, ...]:
    """Return the units that work here, best first; PORTABLE is always the last."""
    units = [unit for unit in (AMX, VNNI) if can_emit(unit)]
    if AMX in units and not _may_use_tiles():
        units.remove(AMX)
    return (*units, PORTABLE)


def _may_use_tiles() -> bool:
    """Ask Linux for the tile registers, which a process may use only after it has asked; false elsewhere."""
    if sys.platform != "linux":
        return False
    return int(ctypes.CDLL(None).syscall(_ARCH_PRCTL, _ASK_PERMISSION, _TILE_DATA)) == 0


def make_tile_config(columns: int) -> NDArray[np.uint8]:
    """Return the 64-byte configuration for steps of `columns` (32 or 64) along K.

    Tiles 0 to 3 hold 16 x 16 sums, 4 and 5 hold 16 rows of A, 6 and 7 hold `columns` / 4 words of 16 rows of B.
    """
    config_u8 = np.zeros(64, np.uint8)
    config_u8[0] = 1
    row_bytes_u16, rows_u8 = config_u8[16:32].view(np.uint16), config_u8[48:56]
    row_bytes_u16[:], rows_u8[:] = 64, 16
    row_bytes_u16[4:6], rows_u8[6:8] = columns, columns // 4
    return config_u8
