"""Settings: option over environment over `.env` over config.toml over default; every value knows where it came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, overload

from llamahome_tui.config.env_file import EnvFile, read_env_file
from llamahome_tui.config.fields import Entry, Mistake, build, flatten, nearest_key, option, plain, schema_of
from llamahome_tui.config.places import Places
from llamahome_tui.errors import ConfigError, NotFoundError


class Origin(StrEnum):
    """Where a value was set; the first of these that sets it wins."""

    OPTION = "option"
    ENVIRONMENT = "environment"
    ENV_FILE = ".env"
    FILE = "file"
    DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class General:
    environment: str = option(
        "production",
        "development shows more: debug log level, full tracebacks in error.log",
        words=("production", "development"),
    )


@dataclass(frozen=True, slots=True)
class Cache:
    size_mib: int = option(
        20480,
        "most MiB that LlamaHome's own caches (prepared data, indexes) may take; 0 keeps nothing",
        "int",
        minimum=0,
        maximum=1 << 30,
    )


@dataclass(frozen=True, slots=True)
class Ui:
    theme: str = option("dark", "name of a theme in themes/*.toml", "text")
    ascii: str = option(
        "auto", "draw with ASCII only: true, false, or auto (by the locale)", words=("auto", "true", "false")
    )


@dataclass(frozen=True, slots=True)
class Logs:
    level: str = option(
        "info",
        "least level that reaches the logs; the default is debug in development",
        words=("debug", "info", "warning", "error"),
    )
    tracebacks: bool = option(False, "full tracebacks in error.log; the default is true in development", "bool")
    rotate_mib: int = option(10, "a log file is rotated at this size", "int", minimum=1, maximum=4096)
    keep: int = option(5, "rotated files kept of each log", "int", minimum=0, maximum=1000)


@dataclass(frozen=True, slots=True)
class Resources:
    interval_s: float = option(
        1.0, "seconds between two samples of GPU, CPU and memory", "number", minimum=0.2, maximum=60
    )


@dataclass(frozen=True, slots=True)
class Launch:
    python: str = option("", "interpreter that has torch and its family; empty: this one", "text")


@dataclass(frozen=True, slots=True)
class Notify:
    on_end: str = option("", "command run when any run ends, with the result as JSON on stdin", "text")
    on_fail: str = option("", "command run when any run fails, with the result as JSON on stdin", "text")


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of one process; `origins` has an entry for every key."""

    general: General = field(default_factory=General)
    cache: Cache = field(default_factory=Cache)
    ui: Ui = field(default_factory=Ui)
    logs: Logs = field(default_factory=Logs)
    resources: Resources = field(default_factory=Resources)
    launch: Launch = field(default_factory=Launch)
    notify: Notify = field(default_factory=Notify)
    origins: Mapping[str, Origin] = field(default_factory=dict)
    places_of: Mapping[str, str] = field(default_factory=dict)  # key -> the variable or file:line that set it
    warnings: tuple[str, ...] = ()

    def get(self, key: str) -> Any:
        """The value of a dotted key. Raises NotFoundError `config.unknown_key` with the nearest known key."""
        if key not in SCHEMA:
            close = nearest_key(key, SCHEMA)
            raise NotFoundError(
                f"there is no setting {key}" + (f"; the nearest is {close}" if close else ""),
                code="config.unknown_key",
                hint="see all of them: llamahome --batch config show",
                data={"key": key, "nearest": close},
            )
        table, _, name = key.partition(".")
        return getattr(getattr(self, table), name)

    def origin(self, key: str) -> Origin:
        """Where the value of `key` was set."""
        return self.origins.get(key, Origin.DEFAULT)

    def as_rows(self) -> list[dict[str, Any]]:
        """Every setting as {key, value, origin, where, default, help}, in the schema's order."""
        return [
            {
                "key": key,
                "value": plain(self.get(key)),
                "origin": self.origin(key).value,
                "where": self.places_of.get(key, ""),
                "default": plain(entry.default),
                "help": entry.field.help,
            }
            for key, entry in SCHEMA.items()
        ]


SCHEMA: dict[str, Entry] = schema_of(Settings)

# Variables with a name of their own; every other setting is LLAMAHOME_<TABLE>_<KEY>.
ALIASES = {
    "LLAMAHOME_ENV": "general.environment",
    "LLAMAHOME_CACHE_SIZE": "cache.size_mib",
}
VARIABLES: dict[str, str] = {"LLAMAHOME_" + key.replace(".", "_").upper(): key for key in SCHEMA} | ALIASES
# Ours, but no settings: places and what a supervisor tells its child.
_FROM_SUPERVISORS = frozenset(f"LLAMAHOME_{name}" for name in ("RUN", "RUN_DIR", "RUN_ID", "ATTEMPT", "PROGRESS_FD"))
_NOT_SETTINGS = _FROM_SUPERVISORS | {"LLAMAHOME_HOME"}
# A folder's `.env` may be somebody else's, and must not start programs.
_NOT_FROM_ENV_FILE = frozenset({"launch.python", "notify.on_end", "notify.on_fail"})

_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off", "")


@overload
def load_settings(
    places: Places,
    environ: Mapping[str, str],
    cwd: Path,
    options: Mapping[str, Any] | None = None,
    use_env_file: bool = True,
    *,
    lenient: Literal[False] = False,
) -> Settings: ...
@overload
def load_settings(
    places: Places,
    environ: Mapping[str, str],
    cwd: Path,
    options: Mapping[str, Any] | None = None,
    use_env_file: bool = True,
    *,
    lenient: Literal[True],
) -> tuple[Settings, list[Mistake]]: ...
def load_settings(
    places: Places,
    environ: Mapping[str, str],
    cwd: Path,
    options: Mapping[str, Any] | None = None,
    use_env_file: bool = True,
    *,
    lenient: bool = False,
) -> Settings | tuple[Settings, list[Mistake]]:
    """Read every layer. Raises ConfigError naming all mistakes; `lenient` returns them, with defaults in their place.

    `options` are dotted keys from the command line ({"ui.theme": "light"}); a None value means that none was given.
    """
    env_file = read_env_file(cwd) if use_env_file else EnvFile(cwd / ".env")
    layers = _Layers()
    layers.add_defaults(environ, env_file, places)
    layers.mistakes += env_file.mistakes
    for key, value in (options or {}).items():
        if value is not None:
            layers.add(key, value, Origin.OPTION, "the command line", 0)
    settings = layers.settings()
    if lenient:
        return settings, layers.sorted_mistakes()
    if layers.mistakes:
        raise config_error(layers.sorted_mistakes())
    return settings


def environment(environ: Mapping[str, str], cwd: Path, use_env_file: bool = True) -> dict[str, str]:
    """`environ` completed by the `.env` in `cwd`: what Places, the Hub and the children are to see.

    Mistakes in the file are left to `load_settings`, and so is what may not stand in it.
    """
    if not use_env_file:
        return dict(environ)
    found = read_env_file(cwd)
    kept = {
        name: value
        for name, value in found.values.items()
        if VARIABLES.get(name, "") not in _NOT_FROM_ENV_FILE and name not in _FROM_SUPERVISORS
    }
    return {**kept, **environ}


def config_error(
    mistakes: list[Mistake], hint: str = "mend them, then look again: llamahome --batch config validate"
) -> ConfigError:
    """One error for all mistakes, each with its file, line, key and nearest known key."""
    said = [str(mistake) for mistake in mistakes]
    message = said[0] if len(said) == 1 else f"{len(said)} mistakes in the configuration:\n" + "\n".join(said)
    return ConfigError(
        message,
        hint=hint,
        data={"errors": [mistake.as_dict() for mistake in mistakes]},
    )


def read_config_file(path: Path) -> tuple[dict[str, Any], dict[str, int], list[Mistake]]:
    """Dotted keys of config.toml, the lines they stand on, and what is wrong; nothing of it where there is no file."""
    from llamahome_tui.config.toml_lines import key_lines, line_of, parse

    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return {}, {}, []
    except UnicodeDecodeError:
        return {}, {}, [Mistake(str(path), 0, "", "is not UTF-8 text")]
    except OSError as error:
        return {}, {}, [Mistake(str(path), 0, "", f"cannot be read: {error.strerror}")]
    tables, broken = parse(text, str(path))
    if broken:
        return {}, {}, [broken]
    lines = key_lines(text)
    good: dict[str, Any] = {}
    wrong: list[Mistake] = []
    for key, value in flatten(tables, SCHEMA).items():
        problem, close = check(key, value)
        if problem:
            wrong.append(Mistake(str(path), line_of(lines, key), key, problem, close))
        else:
            good[key] = value
    return good, lines, wrong


def check(key: str, value: Any) -> tuple[str, str]:
    """What is wrong with setting `key` to `value` ("" if nothing), and the nearest known key for an unknown one."""
    entry = SCHEMA.get(key)
    if entry is None:
        return "there is no such setting", nearest_key(key, SCHEMA)
    problem = entry.field.problem(value)
    return problem or "", ""


def from_text(key: str, text: str) -> Any:
    """A value written as plain text (a variable, a word) as the type its key wants; as it is where none fits."""
    entry = SCHEMA.get(key)
    kinds = entry.field.kinds if entry else ()
    word = text.strip().lower()
    if "bool" in kinds and word in _TRUE + _FALSE:
        return word in _TRUE
    for kind, number in (("int", int), ("number", float)):
        if kind in kinds:
            try:
                return number(text)
            except ValueError:
                pass
    return text


class _Layers:
    """Values as they are found, each layer over the ones before it."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.origins: dict[str, Origin] = dict.fromkeys(SCHEMA, Origin.DEFAULT)
        self.where: dict[str, str] = {}
        self.mistakes: list[Mistake] = []
        self.warnings: list[str] = []

    def add_defaults(self, environ: Mapping[str, str], env_file: EnvFile, places: Places) -> None:
        values, lines, wrong = read_config_file(places.config_file)
        self.mistakes += wrong
        foreign = env_file.values.get("LLAMAHOME_HOME")
        foreign = foreign if environ.get("LLAMAHOME_HOME", foreign) == foreign else None
        for key, value in values.items():
            line = lines.get(key, 0)
            if foreign and key in _NOT_FROM_ENV_FILE:  # else a `.env` could bring its own config.toml
                reason = f"is not taken from a home that {env_file.path} names: set LLAMAHOME_HOME in the environment"
                self.mistakes.append(Mistake(str(places.config_file), line, key, reason))
                continue
            self.add(key, value, Origin.FILE, str(places.config_file), line)
        for name, text in env_file.values.items():
            self._add_variable(name, text, Origin.ENV_FILE, str(env_file.path), env_file.lines[name])
        for name in environ:
            if env_file.values.get(name) == environ[name]:
                continue  # an environment that was completed by the file already
            if name.startswith("LLAMAHOME_") or name in ALIASES:
                self._add_variable(name, environ[name], Origin.ENVIRONMENT, "environment", 0)

    def _add_variable(self, name: str, text: str, origin: Origin, file: str, line: int) -> None:
        key = VARIABLES.get(name)
        if key is None:
            told = name in _FROM_SUPERVISORS and origin is Origin.ENV_FILE
            if not name.startswith("LLAMAHOME_") or (name in _NOT_SETTINGS and not told):
                return
            close = nearest_key(name, VARIABLES)
            if origin is Origin.ENV_FILE:
                self.mistakes.append(Mistake(file, line, name, "there is no such variable", close))
            else:  # other programs' business may share the prefix in a real environment
                self.warnings.append(
                    f"{name} is set, and means nothing" + (f"; did you mean {close}?" if close else "")
                )
            return
        if text == "" and origin is Origin.ENVIRONMENT:
            return  # set to nothing: as good as unset, which is how a shell takes one back
        if origin is Origin.ENV_FILE and key in _NOT_FROM_ENV_FILE:
            reason = f"{key} is not taken from a .env file: set it with llamahome --batch config set {key} VALUE"
            self.mistakes.append(Mistake(file, line, name, reason))
            return
        value = from_text(key, text)
        problem, _ = check(key, value)
        if problem:
            self.mistakes.append(Mistake(file, line, name, problem))
        else:
            self.add(key, value, origin, file if line else name, line)

    def add(self, key: str, value: Any, origin: Origin, file: str, line: int) -> None:
        problem, close = check(key, value)
        if problem:
            self.mistakes.append(Mistake(file, line, key, problem, close))
            return
        self.values[key] = value
        self.origins[key] = origin
        self.where[key] = f"{file}:{line}" if line else file

    def sorted_mistakes(self) -> list[Mistake]:
        return sorted(self.mistakes, key=lambda mistake: (mistake.file, mistake.line))

    def settings(self) -> Settings:
        values = dict(self.values)
        if values.get("general.environment") == "development":
            values.setdefault("logs.level", "debug")
            values.setdefault("logs.tracebacks", True)
        built: Settings = build(Settings, values)
        return replace(built, origins=self.origins, places_of=self.where, warnings=tuple(self.warnings))
