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

# What an entry point of a group has to name; a sink is any function that opens one.
_MADE_OF: Final = {
    "llamahome.methods": "llamahome_tui.training.methods:PluggedMethod",
    "llamahome.formats": "llamahome_tui.data.plugged:PluggedFormat",
    "llamahome.adapters": "llamahome_tui.models.adapted:ModelFormat",
}
_LONGEST: Final = 300  # characters of what a broken one says


class Group(StrEnum):
    """What a plug-in can bring, as its package names the group of the entry point."""

    METHODS = "llamahome.methods"
    FORMATS = "llamahome.formats"
    ADAPTERS = "llamahome.adapters"
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
            found = resolve(self.value)
        except Exception as error:  # a stranger's module may raise anything while it is imported
            raise broken(self, f"{type(error).__name__}: {error}") from error
        wanted = resolve(_MADE_OF[self.group]) if self.group in _MADE_OF else None
        if wanted is None and not callable(found):
            raise broken(self, f"{self.value} is no function")
        if wanted is not None and not isinstance(found, wanted):
            raise broken(self, f"{self.value} is a {type(found).__name__}, and has to be a {wanted.__name__}")
        return found


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


def names(group: Group, taken: Iterable[str] = ()) -> tuple[str, ...]:
    """What the group's plug-ins are called, where a list of choices wants them; none of them is imported."""
    return tuple(listed(group, taken)[0])


def named(group: Group, name: str, taken: Iterable[str] = ()) -> Plugin | None:
    """The plug-in of that name, not loaded; None where there is none."""
    return listed(group, taken)[0].get(name)


def own(group: Group) -> tuple[str, ...]:
    """The names that LlamaHome brings itself, which no plug-in can take."""
    if group is Group.METHODS:
        return tuple(resolve("llamahome_tui.training.methods:METHODS"))
    if group is Group.FORMATS:
        return tuple(resolve("llamahome_tui.data.formats:FORMATS"))
    if group is Group.SINKS:
        return tuple(resolve("llamahome_tui.training.sinks.known:BUILT_IN"))
    return ()
