"""One line for every operation: who, what, how long, outcome, request id; written whichever way the operation ends."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any, cast

from llamahome_tui.errors import LlamaHomeError
from llamahome_tui.logs.files import ACCESS, Limits, write
from llamahome_tui.outcome import Outcome, Result

if TYPE_CHECKING:
    from collections.abc import Generator

    from llamahome_tui.context import Context
    from llamahome_tui.operations import Operation


def logged(operation: Operation, context: Context, arguments: Mapping[str, Any]) -> Iterator[Outcome]:
    """Run the operation, pass its outcomes on unchanged, and write its access line at the end. Both faces run it so."""
    started = time.monotonic()
    outcome, status, level = "ok", 0, "info"
    try:
        with closing(cast("Generator[Outcome]", operation(context, **arguments))) as outcomes:
            for item in outcomes:
                if isinstance(item, Result):
                    status = item.exit_code
                yield item
    except LlamaHomeError as error:
        outcome, status, level = error.error_code, error.exit, "warning"
        raise
    except (GeneratorExit, KeyboardInterrupt):
        outcome, status = "left", 130
        raise
    except BaseException:
        outcome, status, level = "internal", 1, "error"
        raise
    finally:
        line = (
            f"request={context.request_id} user={_user()} host={os.uname().nodename} pid={os.getpid()} "
            f'face={context.interface} operation="{operation.name}" {_named(operation, arguments)}'
            f"seconds={time.monotonic() - started:.3f} outcome={outcome} exit={status}"
        )
        write(context.places.logs, ACCESS, level, line, Limits.of(context.settings))


def _named(operation: Operation, arguments: Mapping[str, Any]) -> str:
    """What the operation was about. Free text (prompts, values, commands) stays out: it may be private."""
    from llamahome_tui.text import clean

    shown = ""
    for argument in operation.arguments:
        value = arguments.get(argument.name)
        harmless = argument.completes or argument.shape == "flag" or argument.kind != "text"
        if value in (None, False, ()) or not harmless:
            continue
        text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        shown += f'{argument.name}="{clean(text, limit=200)}" '
    return shown


def _user() -> str:
    """The login name of this process's user; the number where the system knows no name."""
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
