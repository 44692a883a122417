"""YAML from strangers: plain values only, bounded in size, depth and time, every refusal with its line.

A file is first looked through as events, which builds nothing: unknown tags and too much of anything end there. Aliases
are counted as what they stand for, so that a small file can't unfold to a large one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from llamahome_tui.errors import ConfigError
from llamahome_tui.text import clean

MOST_EVENTS: Final = 10_000
MOST_VALUES: Final = 5_000  # with every alias unfolded
DEEPEST: Final = 30
_CORE: Final = "tag:yaml.org,2002:"
_PLAIN: Final = frozenset(_CORE + name for name in ("str", "int", "float", "bool", "null", "map", "seq", "merge"))


@dataclass(frozen=True, slots=True)
class Document:
    """A mapping of plain values, the line (from 1) of each of its keys, and keys that stand twice with their lines."""

    values: dict[str, Any]
    lines: dict[str, int] = field(default_factory=dict)
    twice: tuple[tuple[str, int, int], ...] = ()


def load(text: str, source: str) -> Document:
    """The document in `text`. Raises ConfigError `import.yaml`, with file and line, where it is not plain."""
    import yaml

    try:
        _look_through(yaml, text, source)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is None:
            raise _refused(source, 0, "is empty")
        if not isinstance(node, yaml.MappingNode):
            raise _refused(source, node.start_mark.line + 1, f"is a {_kind(node.id)}, and a configuration has keys")
        _count(yaml, node, source)
        twice = tuple(_twice(yaml, node))
        lines = {str(key.value): key.start_mark.line + 1 for key, _ in node.value if isinstance(key, yaml.ScalarNode)}
        values = yaml.SafeLoader("").construct_document(_dates_as_text(yaml, node))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        said = getattr(error, "problem", None) or str(error)
        raise _refused(source, mark.line + 1 if mark else 0, f"is not YAML: {clean(said, limit=200)}") from None
    except (
        ValueError,
        OverflowError,
        RecursionError,
    ) as error:  # a number that Python does not take, as 1.5e or one of 10,000 digits
        raise _refused(source, 0, f"holds a value that can't be read: {clean(str(error), limit=200)}") from None
    return Document({str(key): value for key, value in values.items()}, lines, twice)


def _look_through(yaml: Any, text: str, source: str) -> None:
    depth = documents = 0
    for count, event in enumerate(yaml.parse(text, Loader=yaml.SafeLoader)):
        line = event.start_mark.line + 1
        if count > MOST_EVENTS:
            raise _refused(source, line, f"has more than {MOST_EVENTS:,} values, so this is the wrong file")
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                raise _refused(source, line, "holds a second document; a configuration is one")
        elif isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > DEEPEST:
                raise _refused(source, line, f"is nested deeper than {DEEPEST}")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        tag = getattr(event, "tag", None)
        if tag not in (None, "!") and tag not in _PLAIN:
            said = tag.replace(_CORE, "!!")
            raise _refused(
                source, line, f"has the tag {clean(said, limit=80)}, which could make more than plain values"
            )


def _count(yaml: Any, root: Any, source: str) -> None:
    """Refuse what unfolds to more than MOST_VALUES, or into itself."""
    sizes: dict[int, int] = {}
    open_: set[int] = set()

    def size(node: Any) -> int:
        if isinstance(node, yaml.ScalarNode):
            return 1
        if id(node) in open_:
            raise _refused(source, node.start_mark.line + 1, "has an alias that stands for what it is part of")
        if id(node) not in sizes:
            open_.add(id(node))
            inside = node.value if isinstance(node, yaml.SequenceNode) else [one for pair in node.value for one in pair]
            total = 1 + sum(size(one) for one in inside)
            if total > MOST_VALUES:
                reason = f"unfolds its aliases to more than {MOST_VALUES:,} values"
                raise _refused(source, node.start_mark.line + 1, reason)
            open_.discard(id(node))
            sizes[id(node)] = total
        return sizes[id(node)]

    size(root)


def _twice(yaml: Any, root: Any) -> Iterator[tuple[str, int, int]]:
    first: dict[str, int] = {}
    for key, _ in root.value:
        if not isinstance(key, yaml.ScalarNode):
            continue
        line = key.start_mark.line + 1
        if key.value in first and key.value != "<<":
            yield key.value, first[key.value], line
        first[key.value] = line


def _dates_as_text(yaml: Any, root: Any) -> Any:
    """The same nodes with what looks like a date left a text: no key of theirs is one."""
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.ScalarNode):
            if node.tag == _CORE + "timestamp":
                node.tag = _CORE + "str"
        elif isinstance(node, yaml.SequenceNode):
            waiting += node.value
        else:
            waiting += [one for pair in node.value for one in pair]
    return root


def _kind(id: str) -> str:
    return {"scalar": "single value", "sequence": "list"}.get(id, id)


def _refused(source: str, line: int, reason: str) -> ConfigError:
    place = f"{source}:{line}" if line else source
    return ConfigError(
        f"{place}: {reason}",
        code="import.yaml",
        hint="a configuration of plain values is read: llamahome --batch train init --from FILE",
        data={"file": source, "line": line, "reason": reason},
    )
