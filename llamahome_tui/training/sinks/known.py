"""Which sinks `report.to` can name: those that LlamaHome brings, and plug-ins; looked up without importing any."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from llamahome_tui import plugins
from llamahome_tui.config.fields import nearest_key
from llamahome_tui.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Known:
    """A sink of ours: where its opener is, the package that it needs, and whether that sorts runs into projects."""

    value: str
    package: str
    projects: bool


_HERE: Final = "llamahome_tui.training.sinks"
BUILT_IN: Final = {
    "tensorboard": Known(f"{_HERE}.tensorboard:open_sink", "tensorboard", projects=False),
    "wandb": Known(f"{_HERE}.wandb:open_sink", "wandb", projects=True),
    "trackio": Known(f"{_HERE}.trackio:open_sink", "trackio", projects=True),
}


def names() -> tuple[str, ...]:
    """Every sink that can be named: ours, and those of plug-ins."""
    return (*BUILT_IN, *plugins.names(plugins.Group.SINKS, BUILT_IN))


def opener_of(name: str) -> str:
    """`module:attribute` of a sink that `wrong_names` has nothing to say about."""
    if name in BUILT_IN:
        return BUILT_IN[name].value
    return plugins.listed(plugins.Group.SINKS, BUILT_IN)[0][name].value


def wrong_names(names: Sequence[str]) -> Iterator[str]:
    """What is wrong with `report.to`, in words that follow the key."""
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f'names "{name[:60]}" twice'
    strange = [name for name in names if name not in BUILT_IN]
    if not strange:
        return
    found, faults = plugins.listed(plugins.Group.SINKS, BUILT_IN)
    for name in strange:
        if name in found:
            continue
        near = nearest_key(name, [*BUILT_IN, *found])
        meant = f'; did you mean "{near}"?' if near else ""
        why = "".join(f" ({fault})" for fault in faults if f" {name} " in fault)
        yield f'there is no sink "{name[:60]}"{meant or "."} It is one of {", ".join([*BUILT_IN, *found])}{why}'


def needed(names: Sequence[str]) -> list[str]:
    """The packages that these sinks need, where they are ours; a plug-in's package brings its own."""
    return [BUILT_IN[name].package for name in names if name in BUILT_IN]


def is_here(package: str) -> bool:
    """Whether this interpreter has the package."""
    return importlib.util.find_spec(package) is not None


def has_packages(names: Sequence[str], lacking: Callable[[list[str]], list[str]], python: str = "") -> None:
    """Raises ConfigError `report.not_installed`; `lacking` says which packages the interpreter `python` has not."""
    packages = needed(names)
    missing = lacking(packages) if packages else []
    if missing:
        install = f"{python} -m pip install" if python else "pip install"
        raise ConfigError(
            f"report.to: {' and '.join(missing)} {'are' if len(missing) > 1 else 'is'} not installed"
            + (f" for {python}" if python else ""),
            code="report.not_installed",
            hint=f"install: {install} {' '.join(missing)}",
            data={"key": "report.to", "missing": missing},
        )
