"""One tile on whichever unit the machine has, and the memory and settings that it needs.

`tile_amx`, `tile_vnni` and `tile_portable` do the work; this is the door that `operands` and `mining` go through.
"""

import numpy as np

from ml.backends.cpu.kernel import kernel
from ml.backends.cpu.tile import BLOCK_BYTES, BLOCK_COLUMNS, OFFSET_COLUMNS, SCRATCH, TILE, U8, Run
from ml.backends.cpu.tile_amx import configure_tiles, release_tiles, run_tile_amx
from ml.backends.cpu.tile_portable import run_tile_portable
from ml.backends.cpu.tile_vnni import run_tile_vnni
from ml.backends.cpu.units import AMX, VNNI
from ml.noise import I32


@kernel
def make_aligned(size_bytes: int) -> U8:
    """Return memory that begins at a multiple of 64 bytes."""
    memory_u8 = np.empty(size_bytes + 64, np.uint8)
    start = -memory_u8.ctypes.data & 63
    return memory_u8[start : start + size_bytes]


@kernel
def compute_offsets(unit: int, band_u8: U8, offsets_i32: I32) -> None:
    """Write what `tile_vnni` adds to the sums of bands of A, where that unit is used."""
    if unit != VNNI:
        return
    band_i8 = band_u8.view(np.int8)
    for block in range(band_u8.size // BLOCK_BYTES):
        for half in range(2):
            for row in range(TILE):
                at, total = block * BLOCK_BYTES + row * BLOCK_COLUMNS + half * OFFSET_COLUMNS, np.int32(0)
                for column in range(OFFSET_COLUMNS):
                    total += np.int32(band_i8[at + column])
                offsets_i32[(2 * block + half) * TILE + row] = -128 * total


@kernel
def configure(unit: int, config_u8: U8) -> None:
    """Prepare this thread's unit for steps of one width."""
    if unit == AMX:
        configure_tiles(config_u8)


@kernel
def release(unit: int) -> None:
    """Leave this thread's unit as it was."""
    if unit == AMX:
        release_tiles()


@kernel
def run_tile(unit: int, a_u8: U8, b_u8: U8, run: Run, offsets_i32: I32, scratch_i32: I32) -> None:
    """Run one tile (see `tile.Tile`) on `unit`."""
    if unit == AMX:
        run_tile_amx(a_u8, b_u8, run, offsets_i32, scratch_i32)
    elif unit == VNNI:
        run_tile_vnni(a_u8, b_u8, run, offsets_i32, scratch_i32)
    else:
        run_tile_portable(a_u8, b_u8, run, offsets_i32, scratch_i32)


@kernel
def make_scratch() -> I32:
    """Return room for a tile's sums and state."""
    return make_aligned(4 * SCRATCH).view(np.int32)
