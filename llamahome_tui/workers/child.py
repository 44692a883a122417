"""Starts a worker, hands it a request and reads its lines; however the reader leaves, the worker is gone too."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from llamahome_tui.config.secrets import redact, strip_secrets
from llamahome_tui.errors import ConfigError, LlamaHomeError, ResourceError
from llamahome_tui.text import clean

_GONE_S = 1.0  # of the two seconds in which Ctrl+C has ended everything
# Our package is found last, so that everything else in another interpreter stays its own.
_HOME = Path(__file__).resolve().parents[2]
_BOOT = "import runpy,sys; sys.path.append({!r}); runpy.run_module({!r}, run_name='__main__', alter_sys=True)"


def ask(
    python: str, module: str, line: str, environ: Mapping[str, str], beat_s: float = 0.0
) -> Iterator[dict[str, Any]]:
    """The records the worker `python -m module` answers `line` with, up to its `end`, as they come.

    With `beat_s` there is a record of type `beat` wherever nothing came for so long, so that who waits can leave.
    Close the iterator to stop the worker. Its `error` record is raised as the error it is; one that dies without it
    raises LlamaHomeError with the end of what it printed. It never sees a secret of `environ`.
    """
    with tempfile.TemporaryFile() as printed:
        try:
            process = subprocess.Popen(
                [python, "-c", _BOOT.format(str(_HOME), module)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=printed,
                cwd="/",  # what lies in the user's folder must not be imported
                env=_environment(environ),
                start_new_session=True,  # Ctrl+C is ours to handle
            )
        except OSError as error:
            raise ConfigError(
                f"launch.python: {python} does not start: {error.strerror}",
                hint="name another: llamahome --batch config set launch.python /path/to/python",
            ) from None
        with process, _stopped(process):
            assert process.stdin is not None and process.stdout is not None
            with contextlib.suppress(BrokenPipeError):  # it died at once: its end says why
                process.stdin.write(line.encode("utf-8"))
                process.stdin.flush()
            for raw in _lines(process.stdout, beat_s):
                if not raw:
                    yield {"type": "beat"}
                    continue
                record = json.loads(raw)
                if record["type"] == "error":
                    raise _as_error(record)
                yield record
                if record["type"] == "end":
                    return
            raise _died(module, process.wait(), printed)


def _lines(stream: IO[bytes], beat_s: float) -> Iterator[bytes]:
    """The stream's lines; b"" for each `beat_s` in which none came."""
    if not beat_s:
        yield from stream
        return
    part = b""
    while True:
        if not select.select([stream], [], [], beat_s)[0]:
            yield b""
            continue
        more = os.read(stream.fileno(), 1 << 16)
        if not more:
            return
        *whole, part = (part + more).split(b"\n")
        yield from whole


@contextlib.contextmanager
def _stopped(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Leave with the worker gone: it ends when its stdin closes, and is killed when it does not."""
    try:
        yield
    finally:
        if process.stdin is not None:
            with contextlib.suppress(OSError):
                process.stdin.close()
        try:
            process.wait(_GONE_S)
        except subprocess.TimeoutExpired:
            process.kill()


def _environment(environ: Mapping[str, str]) -> dict[str, str]:
    return strip_secrets(environ) | {
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }


def _as_error(record: Mapping[str, Any]) -> LlamaHomeError:
    return LlamaHomeError(
        str(record.get("message")),
        hint=str(record.get("hint") or ""),
        code=str(record.get("code")),
        exit_code=int(record.get("exit") or 1),
        data=record.get("data") or {},
    )


def _died(module: str, status: int, printed: IO[bytes]) -> LlamaHomeError:
    printed.seek(0, os.SEEK_END)
    printed.seek(max(0, printed.tell() - 8192))
    lines = printed.read().decode("utf-8", "replace").strip().splitlines()
    last = clean(redact(lines[-1]), limit=500) if lines else "it printed nothing"
    if status == -9:
        return ResourceError(
            "the worker was killed, most likely because the machine ran out of memory",
            code="resource.memory",
            hint="see what is free: llamahome --batch system show",
        )
    how = f"by signal {-status}" if status < 0 else f"with exit code {status}"
    return LlamaHomeError(
        f"the worker {module} ended {how}: {last}", hint="look for what is missing: llamahome --batch system doctor"
    )
