"""Where everything lives: XDG folders, or all of them under LLAMAHOME_HOME; nothing else computes a path of ours."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from llamahome_tui.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Places:
    """The folders of one user on one machine. Every path is absolute; none needs to exist before `ensure`."""

    config: Path
    state: Path
    cache: Path
    data: Path
    hub_cache: Path

    @property
    def config_file(self) -> Path:
        return self.config / "config.toml"

    @property
    def models_file(self) -> Path:
        return self.config / "models.toml"

    @property
    def config_lock(self) -> Path:
        return self.locks / "config"

    @property
    def runs(self) -> Path:
        return self.state / "runs"

    @property
    def locks(self) -> Path:
        return self.state / "locks"

    @property
    def logs(self) -> Path:
        return self.state / "logs"

    @property
    def queue_file(self) -> Path:
        return self.state / "queue.jsonl"

    @property
    def queue_lock(self) -> Path:
        return self.locks / "queue"

    @property
    def exports(self) -> Path:
        return self.data / "exports"

    @property
    def prepared(self) -> Path:
        return self.cache / "prepared"

    @property
    def indexes(self) -> Path:
        return self.cache / "indexes"

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Places:
        """Places as the environment says. Relative XDG values are ignored, as their specification asks."""
        home = _home(environ)
        caches = _absolute(environ.get("XDG_CACHE_HOME"), home) or home / ".cache"
        hub_home = _absolute(environ.get("HF_HOME"), home, relative=True) or caches / "huggingface"
        hub_cache = (
            _absolute(environ.get("HF_HUB_CACHE"), home, relative=True)
            or _absolute(environ.get("HUGGINGFACE_HUB_CACHE"), home, relative=True)
            or hub_home / "hub"
        )
        own = _absolute(environ.get("LLAMAHOME_HOME"), home, relative=True)
        if own is not None:
            return cls(own / "config", own / "state", own / "cache", own / "data", hub_cache)
        return cls(
            config=(_absolute(environ.get("XDG_CONFIG_HOME"), home) or home / ".config") / "llamahome",
            state=(_absolute(environ.get("XDG_STATE_HOME"), home) or home / ".local" / "state") / "llamahome",
            cache=caches / "llamahome",
            data=(_absolute(environ.get("XDG_DATA_HOME"), home) or home / ".local" / "share") / "llamahome",
            hub_cache=hub_cache,
        )

    def ensure(self) -> None:
        """Make our folders, for this user only (0700). Raises ConfigError `places.not_writable` where that fails."""
        for folder in (self.state, self.runs, self.locks, self.logs, self.config, self.cache, self.data):
            try:
                make_private(folder)
            except OSError as error:
                raise _not_writable(folder, error.strerror or str(error)) from None
        for folder in (self.state, self.runs, self.locks, self.logs):
            if not os.access(folder, os.W_OK | os.X_OK):
                raise _not_writable(folder, "it cannot be written to")


def make_private(folder: Path) -> None:
    """`mkdir -p` with 0700 for each folder made; `Path.mkdir(parents=True)` gives the mode to the last one only."""
    missing: list[Path] = []
    while not folder.is_dir():
        missing.append(folder)
        if folder.parent == folder:
            break
        folder = folder.parent
    for one in reversed(missing):
        one.mkdir(mode=0o700, exist_ok=True)


def _not_writable(folder: Path, reason: str) -> ConfigError:
    return ConfigError(
        f"LlamaHome keeps its runs in {folder}, and that does not work: {reason}",
        code="places.not_writable",
        hint="make it writable, or name another folder: LLAMAHOME_HOME=/path llamahome --batch config path",
        data={"path": str(folder)},
    )


def _home(environ: Mapping[str, str]) -> Path:
    named = environ.get("HOME", "")
    if named.startswith("/"):
        return Path(named)
    import pwd

    try:
        return Path(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError:  # a container's uid without an entry in passwd
        return Path("/")


def _absolute(value: str | None, home: Path, *, relative: bool = False) -> Path | None:
    """`value` as an absolute path; `relative` ones count from the working folder where they are allowed."""
    if not value:
        return None
    if value == "~" or value.startswith("~/"):
        return home / value[2:]
    path = Path(value)
    if path.is_absolute():
        return path
    return Path(os.path.abspath(value)) if relative else None  # noqa: PTH100 - no symlink is resolved here
