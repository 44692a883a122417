"""Compressed files as streams of what is in them: memory stays small, a torn or hostile archive says so.

A zstd file is fed to its decoder block by block (at most 128 KiB each when unpacked): so that no few bytes can ask for
gigabytes at once, and the end of the file is known to be the end of a frame.
"""

from __future__ import annotations

import io
import zlib
from typing import TYPE_CHECKING, Any

from llamahome_tui.data import limits
from llamahome_tui.data.readers.cursor import Unreadable

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

GZIP = b"\x1f\x8b"
ZSTD = b"\x28\xb5\x2f\xfd"
_WINDOW = 1 << 27  # what `zstd -d` allows without being asked
_FEED = 1 << 14  # of gzip, which grows by at most a thousand times
_TORN = "the {} archive is cut short: copy or download it again"


def packing_of(head: bytes) -> str:
    """gzip, zstd or "", by the first bytes of a file."""
    if head.startswith(GZIP):
        return "gzip"
    skippable = head[1:4] == b"\x2a\x4d\x18" and head[:1] and 0x50 <= head[0] <= 0x5F
    return "zstd" if head.startswith(ZSTD) or skippable else ""


def unpacked(stream: io.FileIO, packing: str) -> io.BufferedReader:
    """The content of an archive. Reading raises Unreadable where it is torn, broken or a bomb."""
    return io.BufferedReader(_Gzip(stream) if packing == "gzip" else _Zstd(stream), limits.CHUNK)


class _Packed(io.RawIOBase):
    """Pieces of unpacked bytes made into a raw stream, counted on both sides."""

    def __init__(self, stream: io.FileIO) -> None:
        self._stream = io.BufferedReader(stream, 1 << 16)
        self._ready = memoryview(b"")
        self._taken = 0
        self._given = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        if not self._ready:
            self._ready = memoryview(self._next_piece())
            self._given += len(self._ready)
            if self._given > max(limits.UNPACKED_ALLOWANCE, limits.MAX_UNPACKED_TIMES * self._taken):
                raise Unreadable(
                    f"grows more than {limits.MAX_UNPACKED_TIMES} times when it is unpacked, as no data set does"
                )
        view = memoryview(buffer).cast("B")
        count = min(len(view), len(self._ready))
        view[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count

    def _take(self, count: int) -> bytes:
        taken = self._stream.read(count)
        self._taken += len(taken)
        return taken

    def _next_piece(self) -> bytes:
        """Some unpacked bytes; none at the end."""
        raise NotImplementedError


class _Gzip(_Packed):
    def __init__(self, stream: io.FileIO) -> None:
        super().__init__(stream)
        self._member: Any = None
        self._rest = b""

    def _next_piece(self) -> bytes:
        while True:
            given = self._rest or self._take(_FEED)
            self._rest = b""
            if self._member is None:
                given = given.lstrip(b"\0") if self._given else given  # padding between and after members
                if not given:
                    return b""
                self._member = zlib.decompressobj(wbits=31)
            try:
                piece: bytes = self._member.decompress(given, limits.CHUNK)
            except zlib.error as error:
                raise Unreadable(f"the gzip archive is broken: {error}") from None
            if not (given or piece or self._member.eof):
                raise Unreadable(_TORN.format("gzip"))
            self._rest = self._member.unconsumed_tail
            if self._member.eof:
                self._rest = self._member.unused_data
                self._member = None
            if piece:
                return piece


class _Zstd(_Packed):
    def __init__(self, stream: io.FileIO) -> None:
        import zstandard

        super().__init__(stream)
        self._broken = zstandard.ZstdError
        self._decoder = zstandard.ZstdDecompressor(max_window_size=_WINDOW)
        self._frame: Any = None
        self._checksum = 0

    def _next_piece(self) -> bytes:
        try:
            while True:
                if self._frame is None and not self._begin():
                    return b""
                if self._frame is not None and (piece := self._block()):
                    return piece
        except self._broken as error:
            raise Unreadable(f"the zstd archive is broken: {error}") from None
        except MemoryError:
            raise Unreadable("the zstd archive wants too much memory") from None

    def _exactly(self, count: int) -> bytes:
        taken = self._take(count)
        if len(taken) < count:
            raise Unreadable(_TORN.format("zstd"))
        return taken

    def _begin(self) -> bool:
        """Read a frame's header; False at the end of the file. Skippable frames are passed over."""
        magic = self._take(4)
        if not magic:
            return False
        if packing_of(magic) != "zstd" or len(magic) < 4:
            raise Unreadable(_TORN.format("zstd") if ZSTD.startswith(magic) else "something follows the zstd archive")
        if magic != ZSTD:
            left = int.from_bytes(self._exactly(4), "little")
            while left:
                left -= len(self._exactly(min(left, 1 << 16)))
            return True
        described = self._exactly(1)
        flags = described[0]
        single = flags >> 5 & 1
        size = (1 if single else 0, 2, 4, 8)[flags >> 6] + (0, 1, 2, 4)[flags & 3] + (1 - single)
        self._checksum = 4 * (flags >> 2 & 1)
        self._frame = self._decoder.decompressobj()
        self._frame.decompress(magic + described + self._exactly(size))
        return True

    def _block(self) -> bytes:
        header = self._exactly(3)
        value = int.from_bytes(header, "little")
        kind, size = value >> 1 & 3, value >> 3
        if size > 1 << 17:
            raise Unreadable("the zstd archive is broken: a block is too large")
        piece: bytes = self._frame.decompress(header + self._exactly(1 if kind == 1 else size))
        if value & 1:
            if self._checksum:
                piece += self._frame.decompress(self._exactly(self._checksum))
            self._frame = None
        return piece
