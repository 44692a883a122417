"""The child of a pool: renders and tokenises what it is given, within limits that the kernel keeps.

Jinja's sandbox stops code, but no endless loop and no hunger for memory; and a loop inside one built-in never comes
back to Python. So a timer of CPU time kills this process, whatever it does, and the shared slot tells on which row.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import gc
import json
import mmap
import os
import pickle
import resource
import signal
import struct
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO

from llamahome_tui.data.encode import Encoded, Encoder, Encoding, Seen
from llamahome_tui.data.rows import Bad
from llamahome_tui.data.samples import Chat, Judged, Pair, Sample, Text
from llamahome_tui.errors import LlamaHomeError

FRAME = struct.Struct("<IQ")  # bytes of the head (JSON), bytes of the body
SLOT = struct.Struct("<ii")  # what is being done, and with which row of the batch
LOADING, IDLE, RENDERING, TOKENISING = range(4)
NO_MEMORY = 3  # exit status

_LONG_TEXT = 1 << 18  # characters
_LONG_TEXT_BYTES = 128 << 20  # that so many may take on their way to tokens


@dataclass(frozen=True, slots=True)
class Limits:
    """What one row may cost: seconds of CPU, and bytes on top of what the loaded child takes.

    `rate` is how many characters are tokenised in a second at worst.
    """

    cpu_s: float = 10.0
    rate: int = 50_000
    memory_bytes: int = 1 << 30
    loading_cpu_s: float = 120.0


@dataclass(frozen=True, slots=True)
class Orders:
    """What a child is told first."""

    parent: int
    encoding: Encoding
    limits: Limits


def pack_samples(kind: str, samples: Sequence[Sample]) -> bytes:
    """A request, as plain tuples: they pickle several times faster than the samples."""
    raw = pickle.dumps((kind, [_plain(sample) for sample in samples]), pickle.HIGHEST_PROTOCOL)
    return FRAME.pack(0, len(raw)) + raw


def unpack_samples(raw: bytes) -> tuple[str, list[Sample]]:
    """What `pack_samples` packed."""
    kind, plain = pickle.loads(raw)
    return kind, [_sample(values) for values in plain]


def _plain(sample: Sample) -> tuple[Any, ...]:
    if isinstance(sample, Chat):
        return "chat", sample.messages, sample.tools, sample.file, sample.line, sample.raw, sample.group
    if isinstance(sample, Text):
        return "text", sample.text, sample.file, sample.line, sample.group
    if isinstance(sample, Pair):
        chosen, rejected = _plain(sample.chosen), _plain(sample.rejected)
        return "pair", chosen, rejected, sample.file, sample.line, sample.group
    return "judged", _plain(sample.chat), sample.good, sample.file, sample.line, sample.group


def _sample(values: tuple[Any, ...]) -> Sample:
    kind, *fields = values
    if kind == "chat":
        return Chat(*fields)
    if kind == "text":
        return Text(*fields)
    if kind == "pair":
        return Pair(Chat(*fields[0][1:]), Chat(*fields[1][1:]), *fields[2:])
    return Judged(Chat(*fields[0][1:]), *fields[1:])


class _Guard:
    """Arms the limits for what begins now. It is the encoder's `Watch`."""

    def __init__(self, orders: Orders, slot: mmap.mmap) -> None:
        self._orders = orders
        self._slot = slot
        self._page = resource.getpagesize()
        self._memory = 0

    def loading(self) -> None:
        for limit in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE):
            resource.setrlimit(limit, (0, 0))
        self._begin(LOADING, 0, self._orders.limits.loading_cpu_s)

    def rendering(self, number: int) -> None:
        if os.getppid() != self._orders.parent:
            os._exit(0)  # nobody wants to know any more
        self._begin(RENDERING, number, self._orders.limits.cpu_s)
        self._allow(self._orders.limits.memory_bytes)

    def tokenising(self, number: int, characters: int) -> None:
        self._begin(TOKENISING, number, self._orders.limits.cpu_s + characters / self._orders.limits.rate)
        self._allow(self._orders.limits.memory_bytes + characters // _LONG_TEXT * _LONG_TEXT_BYTES)

    def idle(self) -> None:
        """Nothing of a stranger's runs. What was mapped for the last rows may stay so."""
        signal.setitimer(signal.ITIMER_PROF, 0)
        SLOT.pack_into(self._slot, 0, IDLE, 0)
        self._memory = 0

    def _begin(self, what: int, number: int, cpu_s: float) -> None:
        SLOT.pack_into(self._slot, 0, what, number)
        signal.setitimer(signal.ITIMER_PROF, cpu_s)

    def _allow(self, more: int) -> None:
        if more != self._memory:
            self._memory = more
            with open("/proc/self/statm", "rb", buffering=0) as stream:  # noqa: PTH123 - once a batch, and fast
                mapped = int(stream.read(64).split(maxsplit=1)[0]) * self._page
            resource.setrlimit(resource.RLIMIT_AS, (mapped + more, resource.RLIM_INFINITY))


def main() -> int:
    """Read orders and requests from stdin until it ends, and answer each on stdout."""
    slot, leash = (int(word) for word in sys.argv[-2:])
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    _follow(leash)
    given, out = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr  # nothing else may write into the answers
    sys.dont_write_bytecode = True
    raw = _read(given)
    if raw is None:
        return 0
    shared = mmap.mmap(slot, SLOT.size)
    sys.excepthook = partial(_confess, out, shared)
    orders: Orders = pickle.loads(raw)
    guard = _Guard(orders, shared)
    try:
        guard.loading()
        encoder = Encoder(orders.encoding)
        guard.idle()
        gc.freeze()  # what is loaded stays; and rows are made of nothing that refers to itself
        gc.set_threshold(100_000, 20, 100)
        _serve(given, out, encoder, guard)
    except BrokenPipeError:
        return 0
    except MemoryError:
        return NO_MEMORY
    except LlamaHomeError as error:
        _write(out, {"error": error.as_record() | {"class": type(error).__name__}})
    return 0


def _follow(leash: int) -> None:
    """Die when the parent does, even inside an operation that never ends: nothing is ever written into this pipe, so
    the signal of it says that its other end is closed, and is deadly."""
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    fcntl.fcntl(leash, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(leash, fcntl.F_SETFL, fcntl.fcntl(leash, fcntl.F_GETFL) | os.O_ASYNC)


def _serve(given: BinaryIO, out: BinaryIO, encoder: Encoder, guard: _Guard) -> None:
    while (raw := _read(given)) is not None:
        kind, samples = unpack_samples(raw)
        if kind == "look":
            seen = encoder.look(samples[0], guard)
            guard.idle()
            _write(out, _seen(seen))
        else:
            found = encoder.encode(samples, guard)
            guard.idle()
            _write(out, *_encoded(found))


def _confess(out: BinaryIO, slot: mmap.mmap, kind: type[BaseException], error: BaseException, trace: object) -> None:
    """What nobody expected, with what was being done: the parent says it. Tokenizers panic in a class of their own."""
    what, row = SLOT.unpack_from(slot, 0)
    with contextlib.suppress(OSError):
        _write(out, {"fault": f"{kind.__name__}: {error}"[:500], "what": what, "row": row})


def _encoded(found: Sequence[Encoded | Bad]) -> tuple[dict[str, Any], bytes]:
    rows: list[Any] = []
    ids: list[Any] = []
    masks: list[bytes | bytearray] = []
    for one in found:
        if isinstance(one, Bad):
            rows.append([one.field, one.reason])
            continue
        rows.append([[len(row.ids) for row in one.sequences], one.content.hex(), one.open_ended, one.doubts])
        ids += (row.ids for row in one.sequences)
        masks += (row.mask for row in one.sequences)
    return {"rows": rows}, b"".join((*ids, *masks))


def _seen(seen: Seen | Bad) -> dict[str, Any]:
    if isinstance(seen, Bad):
        return {"bad": [seen.field, seen.reason]}
    fields = [field.name for field in dataclasses.fields(seen.parts[0])]
    parts = [{name: getattr(part, name) for name in fields} for part in seen.parts]
    return {"parts": [part | {"mask": part["mask"].hex(), "special": part["special"].hex()} for part in parts]}


def _read(stream: BinaryIO) -> bytes | None:
    """The body of the next frame, or None where there is no whole one."""
    head = stream.read(FRAME.size)
    if len(head) < FRAME.size:
        return None
    _, size = FRAME.unpack(head)
    raw = stream.read(size)
    return raw if len(raw) == size else None


def _write(stream: BinaryIO, head: dict[str, Any], body: bytes = b"") -> None:
    said = json.dumps(head).encode()
    stream.write(FRAME.pack(len(said), len(body)) + said)
    stream.write(body)
    stream.flush()
