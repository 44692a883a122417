"""Children that render templates and tokenise, in order and in parallel; however their user leaves, they are gone too.

A chat template is somebody else's program, so it runs nowhere but in these (`data/confined.py` keeps the limits).
They are started fresh, never forked: this process may hold torch and its threads.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import mmap
import os
import pickle
import selectors
import shlex
import signal
import subprocess
import sys
import threading
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

from llamahome_tui import errors
from llamahome_tui.config.secrets import strip_secrets
from llamahome_tui.data.caller import on
from llamahome_tui.data.confined import (
    FRAME,
    LOADING,
    NO_MEMORY,
    RENDERING,
    SLOT,
    TOKENISING,
    Limits,
    Orders,
    pack_samples,
)
from llamahome_tui.data.encode import Encoded, Encoding, Seen, SeenPart, Tokenised
from llamahome_tui.data.rows import Bad
from llamahome_tui.data.samples import Judged, Sample
from llamahome_tui.data.template import ChatTemplate
from llamahome_tui.errors import DataError, Interrupted, LlamaHomeError, ModelError, ResourceError

LIMITS = Limits()
MOST_WORKERS = 16

_AHEAD = 2  # batches a child has at once, so that it never waits for the next
_WINDOW = 4  # batches for each child that are under way or wait for their turn
_GONE_S = 2.0
_TICK_S = 0.4
_PIPE_BYTES = 1 << 20
_BOOT = "import sys; sys.path[:] = {!r}; from llamahome_tui.data.confined import main; sys.exit(main())"

Answer = list[Encoded | Bad] | Seen | Bad | LlamaHomeError


def workers_of(setting: int | Literal["auto"]) -> int:
    """How many children `training.max_workers` means: auto is one for each CPU this process may use; 0 is one."""
    if setting == "auto":
        return min(len(os.sched_getaffinity(0)), MOST_WORKERS)
    return max(1, setting)


class Pool:
    """Encodes samples in up to `workers` children, which are started as there is work for them.

    Of one thread at a time; `close` may come from any other and makes a call that waits raise Interrupted. `on_wait` is
    called at least twice a second while this process waits for the others; what it raises passes through.
    """

    def __init__(self, encoding: Encoding, workers: int = 1, on_wait: Callable[[], None] | None = None) -> None:
        self._encoding = encoding
        self._most = max(1, workers)
        self._on_wait = on_wait
        self._children: list[_Child] = []
        self._selector = selectors.DefaultSelector()
        self._turn_lock = threading.Lock()
        self._closed = False

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Kill the children and wait for their end."""
        self._closed = True
        for child in list(self._children):
            child.kill()  # wakes a thread that waits for its answer
        with self._turn_lock:
            self._drop_all()
            self._selector.close()

    def encode(self, batches: Iterable[Sequence[Sample]]) -> Iterator[list[Encoded | Bad]]:
        """Each batch's results, in order. `batches` is read only as far ahead as the children need.

        Raises DataError `template.unbounded` for a row whose rendering exceeds its limits, and what `Encoder` raises.
        """
        source = iter(batches)
        answers: dict[int, Answer] = {}
        given = taken = 0
        more = True
        try:
            while True:
                while more and self._has_room(given - taken):
                    batch = next(source, None)
                    more = batch is not None
                    if batch is not None:
                        self._give(_Job(given, "encode", batch))
                        given += 1
                while taken in answers:
                    answer = answers.pop(taken)
                    taken += 1
                    yield _good(answer)  # type: ignore[misc]
                if taken == given and not more:
                    return
                if taken < given:
                    answers |= self._turn()
        finally:
            if taken < given:
                with self._turn_lock:
                    self._drop_all()

    def look(self, sample: Sample) -> Seen | Bad:
        """One sample with the text and the place of each token. Raises as `encode` does."""
        try:
            self._give(_Job(0, "look", [sample]))
            while not (answers := self._turn()):
                pass
        except BaseException:
            with self._turn_lock:
                self._drop_all()
            raise
        return _good(answers[0])  # type: ignore[return-value]

    def _has_room(self, waiting: int) -> bool:
        """Whether one more batch may be under way; `waiting` are not yet taken by whoever asked for them."""
        return waiting < self._most * _WINDOW and (
            len(self._children) < self._most or any(len(child.jobs) < _AHEAD for child in self._children)
        )

    def _give(self, job: _Job) -> None:
        """Hand a job to the child that has least to do; where all are busy another is started, up to the most."""
        with self._turn_lock:
            if self._closed:
                raise _closed()
            idle = min(self._children, key=lambda child: len(child.jobs), default=None)
            if idle is None or (idle.jobs and len(self._children) < self._most):
                idle = _Child(self._encoding, self._selector)
                self._children.append(idle)
            idle.give(job)

    def _turn(self) -> dict[int, Answer]:
        """Wait until something can be read or written, do it, and give the answers that are whole now, by number."""
        found: dict[int, Answer] = {}
        if self._on_wait:
            self._on_wait()
        with self._turn_lock:
            ready = [] if self._closed else self._selector.select(_TICK_S)
            if self._closed:
                raise _closed()
            for key, _ in ready:
                child: _Child = key.data
                if key.fileobj is child.given:
                    child.write()
                    continue
                alive = child.read()
                found |= dict(child.answers())
                if not alive:
                    self._children.remove(child)
                    found |= child.fate()
        return found

    def _drop_all(self) -> None:
        for child in self._children:
            child.kill()
        while self._children:
            self._children.pop().drop()


@dataclass(frozen=True, slots=True)
class _Job:
    number: int
    kind: Literal["encode", "look"]
    samples: Sequence[Sample]


class _Child:
    """One process, what it was given to do, and the bytes on their way to it and from it."""

    def __init__(self, encoding: Encoding, selector: selectors.BaseSelector) -> None:
        self.jobs: deque[_Job] = deque()
        self._encoding = encoding
        self._limits = LIMITS
        self._selector = selector
        self._outbox: deque[memoryview] = deque()
        self._inbox = bytearray()
        slot = os.memfd_create("llamahome-slot")
        leash, self._leash = os.pipe()
        try:
            os.ftruncate(slot, SLOT.size)
            self._slot = mmap.mmap(slot, SLOT.size)
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _BOOT.format(_search_path()), str(slot), str(leash)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
                pass_fds=(slot, leash),
                cwd="/",
                env=strip_secrets(os.environ) | {"TOKENIZERS_PARALLELISM": "false"},
                process_group=0,  # Ctrl+C is ours to handle
            )
        except OSError as error:
            os.close(self._leash)
            raise ResourceError(
                f"no process to prepare data can be started: {error.strerror}",
                code="resource.processes",
                hint="see what runs: llamahome --batch system show",
            ) from None
        finally:
            os.close(slot)
            os.close(leash)
        assert self._process.stdin is not None and self._process.stdout is not None
        self.given: IO[bytes] = self._process.stdin
        self._said: IO[bytes] = self._process.stdout
        for stream in (self.given, self._said):
            os.set_blocking(stream.fileno(), False)
            with contextlib.suppress(OSError):  # a user may have as many large pipes and no more
                fcntl.fcntl(stream, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        selector.register(self._said, selectors.EVENT_READ, self)
        orders = pickle.dumps(Orders(os.getpid(), encoding, self._limits))
        self._send(FRAME.pack(0, len(orders)) + orders)

    def give(self, job: _Job) -> None:
        """Queue a request."""
        self.jobs.append(job)
        self._send(pack_samples(job.kind, job.samples))

    def _send(self, raw: bytes) -> None:
        if not self._outbox:
            self._selector.register(self.given, selectors.EVENT_WRITE, self)
        self._outbox.append(memoryview(raw))
        self.write()

    def write(self) -> None:
        """Write what fits into the pipe."""
        try:
            while self._outbox:
                part = self._outbox[0]
                written = os.write(self.given.fileno(), part)
                if written == len(part):
                    self._outbox.popleft()
                else:
                    self._outbox[0] = part[written:]
        except BlockingIOError:
            return
        except BrokenPipeError:
            self._outbox.clear()  # it is dead: its end comes out of the other pipe
        self._selector.unregister(self.given)

    def read(self) -> bool:
        """Read what is there; False at the child's end."""
        try:
            raw = os.read(self._said.fileno(), _PIPE_BYTES)
        except BlockingIOError:
            return True
        self._inbox += raw
        return bool(raw)

    def answers(self) -> Iterator[tuple[int, Answer]]:
        """The answers that are whole, with the numbers of their jobs."""
        at = 0
        while len(self._inbox) - at >= FRAME.size and self.jobs:
            head_size, body_size = FRAME.unpack_from(self._inbox, at)
            end = at + FRAME.size + head_size + body_size
            if len(self._inbox) < end:
                break
            start = at + FRAME.size
            head = json.loads(self._inbox[start : start + head_size])
            job = self.jobs.popleft()
            yield job.number, _answer(self._encoding, job, head, bytes(self._inbox[start + head_size : end]))
            at = end
        del self._inbox[:at]

    def fate(self) -> dict[int, Answer]:
        """The error that this child's end is for the job it had, by its number."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_GONE_S)
        status = self.drop()
        if not self.jobs:
            return {}
        job = self.jobs[0]
        what, row = SLOT.unpack_from(self._slot, 0)
        sample = job.samples[min(row, len(job.samples) - 1)]
        return {job.number: _fate(self._encoding, self._limits, status, what, sample)}

    def kill(self) -> None:
        """Kill the process; nothing of this object is closed."""
        self._process.kill()

    def drop(self) -> int:
        """Kill the process if it lives, wait for its end and forget its pipes; gives its exit status."""
        for stream in (self.given, self._said):
            with contextlib.suppress(KeyError):
                self._selector.unregister(stream)
        self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_GONE_S)
        self.given.close()
        self._said.close()
        os.close(self._leash)
        return -signal.SIGKILL if self._process.returncode is None else self._process.returncode


def _search_path() -> list[str]:
    """Where this process finds its modules, without the folder it happens to stand in."""
    home = str(Path(__file__).resolve().parents[2])
    try:
        here = str(Path.cwd())
    except FileNotFoundError:  # the folder is gone
        here = ""
    paths = [path for path in sys.path if Path(path).is_absolute() and (path != here or path == home)]
    return paths if home in paths else [*paths, home]


def _answer(encoding: Encoding, job: _Job, head: dict[str, Any], body: bytes) -> Answer:
    if error := head.get("error"):
        family: type[LlamaHomeError] = getattr(errors, error["class"])
        return family(
            error["message"], hint=error["hint"], code=error["code"], exit_code=error["exit"], data=error["data"]
        )
    if fault := head.get("fault"):
        return _fault(encoding, job.samples[min(head["row"], len(job.samples) - 1)], fault, head["what"])
    if job.kind == "look":
        return _seen(job.samples[0], head)
    tokens = len(body) // 5  # four bytes of id and one of mask each
    ids, mask = memoryview(body)[: 4 * tokens], memoryview(body)[4 * tokens :]
    found: list[Encoded | Bad] = []
    at = 0
    for sample, row in zip(job.samples, head["rows"], strict=True):
        if len(row) == 2:
            found.append(Bad(sample.file, sample.line, *row))
            continue
        lengths, content, open_ended, doubts = row
        sequences = []
        for length in lengths:
            sequences.append(
                Tokenised(array("i", bytes(ids[4 * at : 4 * (at + length)])), bytes(mask[at : at + length]))
            )
            at += length
        found.append(
            Encoded(
                tuple(sequences),
                bytes.fromhex(content),
                sample.group,
                sample.file,
                sample.line,
                open_ended,
                sample.good if isinstance(sample, Judged) else None,
                tuple(doubts),
            )
        )
    return found


def _seen(sample: Sample, head: dict[str, Any]) -> Seen | Bad:
    if bad := head.get("bad"):
        return Bad(sample.file, sample.line, *bad)
    return Seen(
        tuple(
            SeenPart(
                part["title"],
                part["text"],
                tuple(part["ids"]),
                tuple((start, end) for start, end in part["offsets"]),
                bytes.fromhex(part["mask"]),
                bytes.fromhex(part["special"]),
            )
            for part in head["parts"]
        )
    )


def _fault(encoding: Encoding, sample: Sample, fault: str, what: int) -> LlamaHomeError:
    """A child that failed in a way nobody expected; a tokenizer does, where its pattern has to try too much."""
    if what != TOKENISING:
        return LlamaHomeError(f"encoding rows failed: {fault}")
    return _untokenised(encoding, sample, f"the tokenizer fails on it: {fault}")


def _untokenised(encoding: Encoding, sample: Sample, reason: str) -> DataError:
    bad = Bad(sample.file, sample.line, "", reason)
    return DataError(
        str(bad),
        code="tokenizer.unbounded",
        hint=f"mend or remove the row, then {on(encoding.caller)}",
        data={"bad": [bad.as_dict()], "bad_count": 1},
    )


def _fate(encoding: Encoding, limits: Limits, status: int, what: int, sample: Sample) -> LlamaHomeError:
    """What the end of a child means: by how it ended, and by what it was doing with which row."""
    late, hungry = status == -signal.SIGPROF, status == NO_MEMORY
    if status == -signal.SIGKILL:
        return ResourceError(
            "a process that prepares data was killed, most likely because the machine ran out of memory",
            code="resource.memory",
            hint=f"use fewer of them: {on(encoding.caller, 'training.max_workers=1')}",
        )
    if what == RENDERING and (late or hungry or status < 0):
        how = f"is not done within {limits.cpu_s:g} s" if late else f"wants more than {limits.memory_bytes >> 20} MiB"
        return _unbounded(encoding, how if late else f"{how} of memory", sample)
    if what == TOKENISING and (late or hungry or status < 0):
        how = "does not come to an end" if late else "takes too much memory"
        return _untokenised(encoding, sample, f"tokenising it {how}")
    if what == LOADING and late:
        return ModelError(
            f"{encoding.model_dir / 'tokenizer.json'} is not loaded within {limits.loading_cpu_s:g} s",
            code="model.broken",
            hint=f"see what is there: llamahome --batch models show {shlex.quote(str(encoding.model_dir))}",
        )
    how = f"by signal {-status}" if status < 0 else f"with exit code {status}"
    return LlamaHomeError(
        f"a process that prepares data ended {how}", hint="look for what is missing: llamahome --batch system doctor"
    )


def _unbounded(encoding: Encoding, how: str, sample: Sample) -> DataError:
    template = ChatTemplate.load(encoding.model_dir, encoding.data.template)
    source = template.source if template else ""
    reason = f"the chat template {how} on this row"
    return DataError(
        f"the chat template {how}, so it is broken or hostile: {source} (at {sample.file}:{sample.line})",
        code="template.unbounded",
        hint=f"name another: {on(encoding.caller, 'data.template=FILE')}",
        data={"template": source, "bad": [Bad(sample.file, sample.line, "", reason).as_dict()]},
    )


def _good(answer: Answer) -> list[Encoded | Bad] | Seen | Bad:
    if isinstance(answer, LlamaHomeError):
        raise answer
    return answer


def _closed() -> Interrupted:
    return Interrupted("the preparation was stopped")
