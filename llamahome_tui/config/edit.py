"""Writing one key of config.toml or models.toml: under a lock, atomically, comments kept, and only what validates."""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llamahome_tui.config import models_file, settings
from llamahome_tui.config.fields import Mistake, flatten, plain
from llamahome_tui.config.places import Places, make_private
from llamahome_tui.config.toml_lines import key_lines, line_of, parse
from llamahome_tui.errors import BusyError, ConfigError, NotFoundError, ResourceError

_WAIT_S = 10.0


def set_key(places: Places, key: str, text: str) -> tuple[Path, Any, bool]:
    """Set a setting, or `models.NAME.KEY`, to a value written as text; (file, value, whether anything changed).

    Raises NotFoundError for an unknown key, ConfigError for a value that does not validate or a file that is no TOML,
    BusyError when another process keeps the lock.
    """
    in_models = key.startswith("models.")
    path = places.models_file if in_models else places.config_file
    value = _model_value(key, text) if in_models else _setting_value(key, text)
    places.ensure()
    with _locked(places):
        target = Path(os.path.realpath(path))  # a link into somebody's dotfiles stays a link
        before = _read(target)
        after = _edited(before, key, value, str(path))
        old, new = _mistakes(before, str(path), in_models), _mistakes(after, str(path), in_models)
        known = {(mistake.key, mistake.reason) for mistake in old}
        # What was wrong before may be mended key by key; nothing new may be wrong.
        if fresh := [mistake for mistake in new if (mistake.key, mistake.reason) not in known]:
            raise settings.config_error(fresh)
        if after != before:
            _replace(target, after)
    return path, value, after != before


def _setting_value(key: str, text: str) -> Any:
    if key not in settings.SCHEMA:
        settings.Settings().get(key)  # raises with the nearest known key
    value = settings.from_text(key, text)
    problem, _ = settings.check(key, value)
    if problem:
        raise settings.config_error(
            [Mistake("config set", 0, key, problem)],
            "see every setting and where it comes from: llamahome --batch config show",
        )
    return value


def _model_value(key: str, text: str) -> Any:
    _, _, rest = key.partition(".")
    name, _, last = rest.rpartition(".")
    entry = models_file.SCHEMA.get(last)
    if not name or entry is None:
        known = ", ".join(models_file.SCHEMA)
        raise NotFoundError(
            f"there is no key {key}; a named model has {known}",
            code="config.unknown_key",
            hint="see what is set: llamahome --batch config show",
            data={"key": key, "nearest": ""},
        )
    if "texts" in entry.field.kinds:
        return [word.strip() for word in text.split(",") if word.strip()]
    return text


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return ""
    except UnicodeDecodeError:
        raise settings.config_error([Mistake(str(path), 0, "", "is not UTF-8 text")]) from None


def _edited(text: str, key: str, value: Any, source: str) -> str:
    _, broken = parse(text, source)
    if broken:
        raise settings.config_error([broken])
    import tomlkit
    from tomlkit.items import Table

    document = tomlkit.parse(text)
    *tables, name = _path(key)
    at: Any = document
    for depth, table in enumerate(tables):
        if table not in at:
            # The outer of two new tables holds nothing but the inner one, and gets no header of its own.
            new: Table = tomlkit.table(is_super_table=depth < len(tables) - 1)
            at.add(table, new)
        at = at[table]
    if at.get(name) is None or plain(at[name]) != value:
        at[name] = value
    return tomlkit.dumps(document)


def _path(key: str) -> list[str]:
    """The parts of a key; a model's name may hold dots."""
    if key.startswith("models."):
        name, _, last = key.removeprefix("models.").rpartition(".")
        return ["models", name, last]
    return key.split(".")


def _mistakes(text: str, source: str, in_models: bool) -> list[Mistake]:
    tables, broken = parse(text, source)
    if broken:
        return [broken]
    lines = key_lines(text)
    if in_models:
        return models_file.check_models(tables, lines, source)[1]
    found: list[Mistake] = []
    for key, value in flatten(tables, settings.SCHEMA).items():
        problem, close = settings.check(key, value)
        if problem:
            found.append(Mistake(source, line_of(lines, key), key, problem, close))
    return found


def _replace(path: Path, text: str) -> None:
    """A file that is old or new, never in between, and readable by its owner only."""
    make_private(path.parent)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise (ResourceError if full else ConfigError)(
            f"{path} cannot be written: {error.strerror}",
            code="disk.full" if full else "config.not_written",
            hint="see where it lies: llamahome --batch config path",
        ) from None
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextlib.contextmanager
def _locked(places: Places) -> Iterator[None]:
    from llamahome_tui.jobs.locks import RecordLock

    lock = RecordLock(places.config_lock)
    if not lock.acquire(blocking=True, timeout=_WAIT_S):
        raise BusyError(
            "another llamahome is writing the configuration",
            code="config.busy",
            hint="try again: llamahome --batch config set KEY VALUE",
        )
    try:
        yield
    finally:
        lock.release()
