"""Plug-ins: what other packages bring along as entry points; nothing of them is imported before it is used.

A broken one is an error where it is named and a line of `system doctor`, and never anything else.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from llamahome_tui.errors import ConfigError

_LONGEST: Final = 300  # characters of what a broken one says


class Group(StrEnum):
    """What a plug-in can bring, as its package names the group of the entry point."""

    METHODS = "llamahome.methods"
    FORMATS = "llamahome.formats"
    SINKS = "llamahome.sinks"


@dataclass(frozen=True, slots=True)
class Plugin:
    """One entry point: `value` is `module:attribute`, `package` who brings it and in which version."""

    group: Group
    name: str
    value: str
    package: str

    def load(self) -> Any:
        """The object that it names. Raises ConfigError `plugin.broken`, whatever its module does on the way."""
        try:
            return resolve(self.value)
        except Exception as error:
            raise broken(self, f"{type(error).__name__}: {error}") from error


def broken(plugin: Plugin, reason: str) -> ConfigError:
    """The error of a plug-in that does not load or is not what its group asks for."""
    from llamahome_tui.text import clean

    return ConfigError(
        f"the plug-in {clean(plugin.name)} ({plugin.group}, of {clean(plugin.package)}) is broken: "
        f"{clean(reason)[:_LONGEST]}",
        code="plugin.broken",
        hint=f"mend or remove it: pip uninstall {clean(plugin.package).partition(' ')[0]}",
        data={"group": plugin.group, "name": plugin.name, "value": plugin.value},
    )


def resolve(value: str) -> Any:
    """What `module:attribute` names."""
    module, _, attributes = value.partition(":")
    found: Any = importlib.import_module(module)
    for attribute in attributes.split(".") if attributes else []:
        found = getattr(found, attribute)
    return found


def listed(group: Group, taken: Iterable[str] = ()) -> tuple[Mapping[str, Plugin], tuple[str, ...]]:
    """The group's plug-ins by name, and what is wrong with it in sentences.

    A name that two packages bring counts for neither of them, and one of `taken` stays what LlamaHome brings: what a
    spec means must not depend on the order of a folder.
    """
    from importlib.metadata import entry_points

    found: dict[str, set[Plugin]] = {}
    for entry in entry_points(group=group.value):
        package = f"{entry.dist.name} {entry.dist.version}" if entry.dist else "an unknown package"
        found.setdefault(entry.name, set()).add(Plugin(group, entry.name, entry.value, package))
    known, faults, own = {}, [], set(taken)
    for name, claims in sorted(found.items()):
        packages = " and ".join(sorted(one.package for one in claims))
        if name in own:
            faults.append(f"{packages}: {group} has {name} already, which LlamaHome brings")
        elif len(claims) > 1:
            faults.append(f"{packages} both bring {name} as {group}, so neither counts")
        else:
            known[name] = next(iter(claims))
    return known, tuple(faults)
