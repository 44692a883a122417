"""The `data` results in lines for people: rows with their learned tokens marked, numbers with a drawn histogram."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from llamahome_tui.batch.paper import Paper
from llamahome_tui.batch.tables import bars, fields, table
from llamahome_tui.text import clean

_LONGEST = 1 << 22


def formats_lines(data: Any, _: Paper) -> Iterator[str]:
    """The result of `data formats`."""
    for number, one in enumerate(data):
        if number:
            yield ""
        yield clean(str(one["name"]))
        yield from ("  " + line for line in fields([(key, one[key]) for key in ("rule", "example", "learned")]))


def validate_lines(data: Any, _: Paper) -> Iterator[str]:
    """The result of `data validate` where every row can be used."""
    yield from fields((("rows", f"{data['rows']:,}"), ("format", data["format"]), ("bad", "none")))


def inspect_lines(data: Any, paper: Paper) -> Iterator[str]:
    """The result of `data inspect`: each part's text, what is learned of it marked.

    On a terminal the tokens stand apart and learned ones are underlined and coloured; elsewhere a column says so.
    """
    parts = [(name, data[name]) for name in ("chosen", "rejected") if name in data] or [("", data)]
    yield from fields((
        ("row", data["row"]),
        ("place", f"{data['file']}:{data['line']}"),
        ("format", data["format"]),
    ))  # fmt: skip
    for name, part in parts:
        yield ""
        learned = part["trained_tokens"]
        share = f" ({learned / len(part['ids']):.0%})" if part["ids"] else ""
        yield f"{name + ': ' if name else ''}{len(part['ids']):,} tokens, {learned:,} learned{share}"
        yield ""
        yield from (_marked if paper.marks else _in_columns)(part, paper)


def stats_lines(data: Any, paper: Paper) -> Iterator[str]:
    """The result of `data stats`."""
    lengths = data["lengths"]
    limit = data["max_length"]
    yield from fields((
        ("rows", f"{data['rows']:,}"),
        ("format", data["format"]),
        ("messages", ", ".join(f"{one['count']:,} {one['role']}" for one in data["messages"])),
        ("tokens", f"{data['tokens']:,}"),
        ("learned", f"{data['trained_tokens']:,} ({data['trained_share']:.1%})"),
        ("per epoch", f"{data['tokens_per_epoch']:,} tokens"),
        ("too long", f"{_rows(data['long_rows'])} over {limit:,} tokens ({data['long_share']:.2%})" if limit else ""),
        ("lost by it", f"{data['lost_trained_tokens']:,} learned tokens ({data['lost_trained_share']:.2%})"
         if data["lost_trained_tokens"] else ""),
        ("untrained", f"{_rows(data['untrained_rows'])} with nothing to learn" if data["untrained_rows"] else ""),
        ("duplicates", _twins(data["duplicates"], data["rows"])),
        ("overlap", _overlap(data["overlap"])),
        ("padding", ", ".join(f"{name} {share:.1%}" for name, share in data["padding"].items())),
        ("bad", f"{_rows(data['bad_count'])} that cannot be used, counted nowhere else" if data["bad_count"] else ""),
    ))  # fmt: skip
    yield ""
    yield "tokens per row"
    yield from bars(
        [(_span(one["from"], one["to"] - 1), one["rows"]) for one in lengths["histogram"]],
        paper.columns,
        symbols=paper.symbols,
    )
    names = ("min", "mean", "p50", "p90", "p95", "p99", "max")
    yield ""
    yield "  ".join(f"{name} {lengths[name]:,.0f}" for name in names)
    if data["longest"]:
        yield ""
        rows: list[Sequence[object]] = [(f"{one['file']}:{one['line']}", one["tokens"]) for one in data["longest"]]
        yield from table(("LONGEST ROWS", "TOKENS"), rows, right="TOKENS")
    for title, found in (("DUPLICATES", data["duplicates"]), ("ALSO HELD OUT", data["overlap"])):
        if found["examples"]:
            yield ""
            rows = [(one["row"], one["twin"], f"{one['likeness']:.2f}") for one in found["examples"]]
            yield from table((title, "LIKE", "ALIKE"), rows, right="ALIKE")
    for line in data["warnings"]:
        yield ""
        yield clean(f"warning: {line}")


def _span(first: int, last: int) -> str:
    return f"{first:,}-{last:,}" if first < last else f"{first:,}"


def _rows(count: int) -> str:
    return f"{count:,} row{'' if count == 1 else 's'}"


def _twins(found: Mapping[str, Any], rows: int) -> str:
    said = f"{found['exact']:,} exact, {found['near']:,} near"
    return said + (f" (near ones among the first {found['compared']:,})" if found["compared"] < rows else "")


def _overlap(found: Mapping[str, Any]) -> str:
    if found["against"] == "none":
        return ""
    where = "rows of the eval file" if found["against"] == "file" else "rows that would be held out"
    return f"{found['exact']:,} exact, {found['near']:,} near, of {found['rows']:,} {where}"


def _runs(part: Mapping[str, Any]) -> Iterator[tuple[bool, list[str]]]:
    """Neighbouring tokens that are learned or not, as (learned, their pieces)."""
    both = zip(part["pieces"], part["mask"], strict=False)
    for learned, run in groupby(both, key=lambda one: bool(one[1])):
        yield learned, [piece for piece, _ in run]


def _in_columns(part: Mapping[str, Any], paper: Paper) -> Iterator[str]:
    """A line of text is a line here; `learned` stands before what is."""
    for learned, run in _runs(part):
        text = _shown("".join(run), paper)
        for line in text.removesuffix("\n").split("\n"):
            yield f"{'learned' if learned else '':<7} | {line}".rstrip()


def _marked(part: Mapping[str, Any], paper: Paper) -> Iterator[str]:
    """The text as it stands, tokens apart by faint dots, learned ones marked; each line closes what it opens."""
    apart = "\u00b7" if paper.symbols else "'"
    line: list[str] = []
    for learned, run in _runs(part):
        for piece in run:
            if not piece:
                continue
            if line:
                line.append(paper.faint(apart))
            first, *others = _shown(piece, paper).split("\n")
            line.append(paper.learned(first) if learned else first)
            for text in others:
                yield "".join(line)
                line = [(paper.learned(text) if learned else text)] if text else []
    if line:
        yield "".join(line)


def _shown(text: str, paper: Paper) -> str:
    """Cleaned, with a sign where each line ends, as a newline may be a token that is learned."""
    sign = "\u21b5\n" if paper.symbols else "\\n\n"
    return clean(text, limit=_LONGEST, keep_newlines=True).replace("\t", "    ").replace("\n", sign)
