"""What a row may be at most: anything over these is no training row and would only eat memory and time."""

from __future__ import annotations

MAX_ROW_BYTES = 16 << 20
MAX_DEPTH = 64  # of lists and objects in one another
CHUNK = 1 << 20  # bytes asked of a file at a time
MAX_UNPACKED_TIMES = 500  # a compressed file that grows by more than this, past the allowance, is a bomb
UNPACKED_ALLOWANCE = 256 << 20
