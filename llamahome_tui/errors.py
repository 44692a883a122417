"""The family of errors a user can meet; each one carries a code, an exit status and a hint that ends in a command."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar


class LlamaHomeError(Exception):
    """A failure that is reported in one sentence, never as a traceback.

    `message` says what is wrong and where (file, line, key); `hint` says what to do and ends in a command;
    `data` holds what the failure knows (bad rows, alternatives, candidates) as JSON-ready values.
    """

    code: ClassVar[str] = "internal"
    exit_code: ClassVar[int] = 1

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        code: str | None = None,
        exit_code: int | None = None,
        data: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.error_code = code or self.code
        self.exit = self.exit_code if exit_code is None else exit_code
        self.data: dict[str, Any] = dict(data or {})

    def as_record(self) -> dict[str, Any]:
        """The closing `error` line of the JSON output (CONTRACT: Output)."""
        return {
            "type": "error",
            "ok": False,
            "code": self.error_code,
            "message": self.message,
            "hint": self.hint,
            "exit": self.exit,
            "data": self.data,
        }


class UsageError(LlamaHomeError):
    """Wrong words on the command line, consent missing, or an ambiguous prefix."""

    code = "usage"
    exit_code = 2


class ConfigError(LlamaHomeError):
    """A configuration, `.env`, theme or key map file that does not validate."""

    code = "config.invalid"
    exit_code = 3


class SpecError(LlamaHomeError):
    """A training spec that does not validate; `data["errors"]` lists every mistake at once."""

    code = "spec.invalid"
    exit_code = 3


class DataError(LlamaHomeError):
    """A data set that cannot be trained on; `data["bad"]` lists rows as {file, line, field, reason}."""

    code = "data.invalid"
    exit_code = 3


class ModelError(LlamaHomeError):
    """A model folder that cannot be used: a file is missing, or a format is unknown."""

    code = "model.invalid"
    exit_code = 3


class NotFoundError(LlamaHomeError):
    """No such run, model, file or key."""

    code = "not_found"
    exit_code = 4


class ResourceError(LlamaHomeError):
    """Not enough memory or disk; `data` has `needed_bytes` and `free_bytes`."""

    code = "resource.insufficient"
    exit_code = 5


class HubError(LlamaHomeError):
    """The network or the Hub did not do what was asked."""

    code = "hub.failed"
    exit_code = 6


class AuthError(LlamaHomeError):
    """No token, a bad token, or a gated repository."""

    code = "auth.denied"
    exit_code = 7


class IntegrityError(LlamaHomeError):
    """A hash that does not match, or a file that is corrupt."""

    code = "integrity.mismatch"
    exit_code = 8


class TrainingError(LlamaHomeError):
    """The run failed, was lost or interrupted, or an assertion on it does not hold."""

    code = "run.failed"
    exit_code = 9


class BusyError(LlamaHomeError):
    """Locked, in use, or a name that is already live."""

    code = "busy"
    exit_code = 10


class TimeoutReached(LlamaHomeError):
    """`--timeout` passed before what was waited for."""

    code = "timeout"
    exit_code = 124


class Interrupted(LlamaHomeError):
    """Ctrl+C; for a followed job this detaches and leaves the job running."""

    code = "interrupted"
    exit_code = 130
