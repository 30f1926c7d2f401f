"""One tile on whichever unit the machine has, and the memory and settings that it needs.

`tile_amx`, `tile_vnni` and `tile_portable` do the work; this is the door that `operands` and `mining` go through.
"""

import numpy as np

from ml.backends.cpu.emit import LANES
from ml.backends.cpu.kernel import kernel
from ml.backends.cpu.tile import BLOCK_BYTES, HALF_BYTES, OFFSET_COLUMNS, SCRATCH, TILE, U8, Run
from ml.backends.cpu.tile_amx import configure_tiles, release_tiles, run_tile_amx
from ml.backends.cpu.tile_portable import run_tile_portable
from ml.backends.cpu.tile_vnni import add_columns, clean_tile_vnni, run_tile_vnni
from ml.backends.cpu.units import AMX, VNNI
from ml.noise import I32


@kernel
def make_aligned(size_bytes: int) -> U8:
    """Return memory that begins at a multiple of 64 bytes."""
    memory_u8 = np.empty(size_bytes + 64, np.uint8)
    start = -memory_u8.ctypes.data & 63
    return memory_u8[start : start + size_bytes]


@kernel
def shift_bands(unit: int, bands_u8: U8) -> None:
    """Add 128 to the bytes of bands of A, where `tile_vnni` is used."""
    if unit == VNNI:
        for at in range(bands_u8.size):
            bands_u8[at] ^= np.uint8(128)


@kernel
def compute_offsets(unit: int, bands_u8: U8, columns: int, offsets_i32: I32) -> None:
    """Write what `tile_vnni` adds to the sums of bands of B, each of so many columns, where that unit is used."""
    if unit != VNNI:
        return
    sums_i32, size = np.empty(LANES, np.int32), columns // OFFSET_COLUMNS * TILE
    for block in range(bands_u8.size // BLOCK_BYTES):
        for part in range(4):
            # Both halves' first 32 columns of a block, then both halves' second.
            later, half = divmod(part, 2)
            add_columns(bands_u8, block * BLOCK_BYTES + half * HALF_BYTES + later * HALF_BYTES // 2, sums_i32)
            at = (2 * block + later) * TILE + half * LANES
            for lane in range(LANES):
                before = 0 if at % size < TILE else offsets_i32[at - TILE + lane]
                offsets_i32[at + lane] = before - 128 * sums_i32[lane]


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
def clean_tile(unit: int, a_u8: U8, b_u8: U8, run: Run, offsets_i32: I32, scratches: tuple[I32, I32]) -> None:
    """Take the products of two bands of factors from the sums of the first scratch; the second is room to use.

    A band holds high bytes and then low ones, `columns` of the run each: v = 128 high + low.
    """
    total_i32, sums_i32 = scratches
    if unit == VNNI:
        clean_tile_vnni(a_u8, b_u8, run, offsets_i32, total_i32)
        return
    a, b, _, columns, fold, step = run
    for limb in range(2):
        run_tile(unit, a_u8, b_u8, (a, b, limb * columns, columns, fold, step), offsets_i32, sums_i32)
        for place in range(TILE * TILE):
            total_i32[place] -= sums_i32[place] << (7 - 7 * limb)


@kernel
def make_scratch() -> I32:
    """Return room for a tile's sums and state."""
    return make_aligned(4 * SCRATCH).view(np.int32)
