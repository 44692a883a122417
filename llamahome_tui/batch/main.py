"""One operation from words to exit status; the outer wall where every failure becomes one sentence and a number."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, cast

from llamahome_tui.batch.output import JsonLines, Output
from llamahome_tui.batch.paper import paper_of
from llamahome_tui.batch.people import People
from llamahome_tui.batch.words import Invocation, read_words
from llamahome_tui.errors import ConfigError, Interrupted, LlamaHomeError, ResourceError, UsageError
from llamahome_tui.operations import Operation
from llamahome_tui.outcome import Accepted, Level, Note, Record, Result

if TYPE_CHECKING:
    from collections.abc import Generator

    from llamahome_tui.context import Context
    from llamahome_tui.outcome import Outcome

# What a shell reports for a program that wrote into a closed pipe.
BROKEN_PIPE = 128 + signal.SIGPIPE


def run(words: Sequence[str]) -> int:
    """Do what the words after `--batch` ask for; gives the exit status of CONTRACT: Output."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a terminal without UTF-8 still gets every line
    try:
        return _run(words)
    except _OutputLost as lost:
        _let_go_of_output()
        if isinstance(lost.error, BrokenPipeError):
            return BROKEN_PIPE
        _last_words(f"llamahome: the output cannot be written: {lost.error.strerror}\n")
        return 1


def _run(words: Sequence[str]) -> int:
    as_json = "--json" in (words[: list(words).index("--")] if "--" in words else words)
    try:
        asked = read_words(words)
    except UsageError as error:
        _output(None, as_json, quiet=False).fail(error)
        return error.exit
    if asked.help or asked.operation is None:
        with _writing():
            sys.stdout.write(asked.help)
            sys.stdout.flush()
        return 0
    output = _output(asked.operation, asked.json, asked.quiet)
    following = _Following(asked.operation)
    context: Context | None = None
    try:
        from llamahome_tui.start import surroundings

        lenient = asked.operation.mends_configuration
        context, _ = surroundings(os.environ, "batch", env_file=asked.env_file, yes=asked.yes, lenient=lenient)
        for warning in context.settings.warnings:
            output.show(Note(warning, Level.WARNING))
        return _work(asked, context, output, following)
    except LlamaHomeError as error:
        output.fail(error)
        return error.exit
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a second Ctrl+C ends at once
        interrupted = following.interrupted()
        output.fail(interrupted)
        return interrupted.exit
    except _OutputLost:
        raise
    except Exception as crash:  # noqa: BLE001 (an outer wall)
        known = _known(crash) or _internal(crash, context)
        output.fail(known)
        return known.exit


def _work(asked: Invocation, context: Context, output: Output, following: _Following) -> int:
    from llamahome_tui.logs.access import logged

    assert asked.operation is not None
    status, finished = 0, False
    with closing(cast("Generator[Outcome]", logged(asked.operation, context, asked.arguments))) as outcomes:
        for outcome in outcomes:
            if isinstance(outcome, Result):
                status, finished = outcome.exit_code, True
            following.take(outcome)
            output.show(outcome)
    if not finished:
        output.show(Result(None))
    return status


class _Following:
    """Remembers which job is being followed, for the words that Ctrl+C leaves behind."""

    def __init__(self, operation: Operation) -> None:
        self._operation = operation
        self._run = ""

    def take(self, outcome: Outcome) -> None:
        if isinstance(outcome, Accepted):
            self._run = outcome.id
        elif isinstance(outcome, Record):
            self._run = outcome.run

    def interrupted(self) -> Interrupted:
        if not self._run or self._operation.answer == "stream":
            return Interrupted("interrupted", hint=f"see: llamahome --batch {self._operation.name} --help")
        return Interrupted(
            f"detached; run {self._run} goes on",
            hint=f"follow it again: llamahome --batch runs watch {self._run}; "
            f"stop it: llamahome --batch runs stop {self._run}",
            data={"id": self._run},
        )


def _output(operation: Operation | None, as_json: bool, quiet: bool) -> Output:
    paper = paper_of(sys.stdout, os.environ)
    people = People(operation, sys.stdout, sys.stderr, quiet=quiet, repaint=not as_json, paper=paper)
    return _Guarded(JsonLines(operation, sys.stdout, people) if as_json else people)


class _OutputLost(Exception):
    """Stdout or stderr took no more; told apart from everything that goes wrong inside an operation."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error


@contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _OutputLost(error) from error


class _Guarded:
    """An output whose own failures are `_OutputLost`."""

    def __init__(self, output: Output) -> None:
        self._output = output

    def show(self, outcome: Outcome) -> None:
        with _writing():
            self._output.show(outcome)

    def fail(self, error: LlamaHomeError) -> None:
        with _writing():
            self._output.fail(error)


def _known(crash: Exception) -> LlamaHomeError | None:
    """What the operating system refused, where a person can mend it; None for everything else."""
    if not isinstance(crash, OSError):
        return None
    place = str(crash.filename) if crash.filename else "the disk"
    if crash.errno in (errno.ENOSPC, errno.EDQUOT):
        return ResourceError(
            f"no space left at {place}", code="disk.full", hint="see what takes space: llamahome --batch cache usage"
        )
    if crash.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR):
        return ConfigError(
            f"{place}: {crash.strerror}",
            code="places.denied",
            hint="see where things live: llamahome --batch config path",
        )
    return None


def _internal(crash: Exception, context: Context | None) -> LlamaHomeError:
    """A fault of our own: one masked sentence here, the traceback (without values of variables) in app/error.log."""
    from llamahome_tui.config.secrets import redact

    hint = "check this machine: llamahome --batch system doctor"
    if context is not None:
        from llamahome_tui.logs.files import Limits
        from llamahome_tui.logs.sinks import open_sinks

        logger = open_sinks(context.places.logs, Limits.of(context.settings))
        logger.opt(exception=crash).error("request={} a fault of LlamaHome's own", context.request_id)
        hint = "the details: llamahome --batch logs show error --since 5m"
    return LlamaHomeError(f"a fault of LlamaHome's own: {redact(f'{type(crash).__name__}: {crash}')}", hint=hint)


def _let_go_of_output() -> None:
    """Point stdout at nothing, so that the interpreter's last flush meets no broken pipe."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, sys.stdout.fileno())
    os.close(nothing)


def _last_words(text: str) -> None:
    try:
        os.write(2, text.encode("utf-8", "backslashreplace"))
    except OSError:
        pass  # nobody listens any more
