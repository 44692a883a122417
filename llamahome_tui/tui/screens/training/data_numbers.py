"""The numbers of a data set as lines: what there is, what is learned, cut off, there twice, and what batching costs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from llamahome_tui.tui.widgets.lines import Line

if TYPE_CHECKING:
    from llamahome_tui.data.figures import Place, Stats, Twin

_LABEL = 12
_TWINS = 8
_LONGEST = 5
_BAR = 20


def lines_of(stats: Stats, *, ascii_only: bool = False) -> list[Line]:
    """Every number as (text, tone); a tone other than "" always has words that say the same."""
    if not stats.rows:
        return [(_said("rows", "none that can be used"), "bad"), *_faults(stats)]
    faults, twice, padding = _faults(stats), _twice(stats), _padding(stats, ascii_only)
    return [*_counts(stats), *faults, *twice, ("", ""), *padding, *_places(stats)]


def _counts(stats: Stats) -> Iterator[Line]:
    yield _said("rows", f"{stats.rows:,} {stats.format}"), "strong"
    if stats.messages:
        yield _said("messages", ", ".join(f"{count:,} {role}" for role, count in stats.messages.items())), ""
    yield _said("tokens", f"{stats.tokens:,}, {stats.tokens_per_epoch:,} in an epoch"), ""
    yield (
        _said("learned", f"{stats.trained_tokens:,} ({stats.trained_share:.1%})"),
        "ok" if stats.trained_tokens else "bad",
    )
    lengths = stats.lengths
    yield _said("length", f"{lengths.min:,} to {lengths.max:,}, half of them up to {lengths.p50:,}"), ""
    yield _said("", f"mean {lengths.mean:,.0f}, p90 {lengths.p90:,}, p95 {lengths.p95:,}, p99 {lengths.p99:,}"), "dim"
    if stats.max_length:
        long = f"{stats.long_rows:,} rows ({stats.long_share:.2%}) over max_length {stats.max_length:,}"
        yield _said("too long", long), "warn" if stats.long_rows else ""
    if stats.lost_trained_tokens:
        lost = f"{stats.lost_trained_tokens:,} tokens to learn ({stats.lost_share:.2%}) are past it"
        yield _said("", lost), "warn"
    if stats.untrained_rows:
        yield _said("untrained", f"{stats.untrained_rows:,} rows have nothing to learn"), "warn"


def _faults(stats: Stats) -> Iterator[Line]:
    if stats.bad_count:
        said = "1 row" if stats.bad_count == 1 else f"{stats.bad_count:,} rows"
        yield _said("bad", f"{said} cannot be used, not counted elsewhere; b lists them"), "bad"
    for warning in stats.warnings:
        yield _said("warning", warning), "warn"


def _twice(stats: Stats) -> Iterator[Line]:
    found = stats.duplicates
    among = f", near ones among the first {found.compared:,}" if found.compared < stats.rows else ""
    yield _said("duplicates", f"{found.exact:,} exact, {found.near:,} near{among}"), _warned(found.exact + found.near)
    overlap = stats.overlap
    if overlap.against != "none":
        rows = "rows of the eval file" if overlap.against == "file" else "rows that would be held out"
        twins = overlap.twins
        said = f"{twins.exact:,} exact, {twins.near:,} near, of {overlap.rows:,} {rows}"
        yield _said("overlap", said), _warned(twins.exact + twins.near)


def _padding(stats: Stats, ascii_only: bool) -> Iterator[Line]:
    if stats.padding:
        yield "padding: tokens that are computed for nothing", "head"
    for mode, share in stats.padding.items():
        full = round(share * _BAR)
        bar = ("#" if ascii_only else "█") * full + ("." if ascii_only else "░") * (_BAR - full)
        yield _said(mode, f"{bar} {share:.1%}"), "first"


def _places(stats: Stats) -> Iterator[Line]:
    if stats.longest:
        yield "", ""
        yield "longest rows", "head"
    for one in stats.longest[:_LONGEST]:
        yield f"{one.tokens:>{_LABEL - 2},}  {_place(one.place)}", ""
    yield from _twins("the same twice", stats.duplicates.examples)
    yield from _twins("held out and trained on", stats.overlap.twins.examples)


def _twins(title: str, twins: Sequence[Twin]) -> Iterator[Line]:
    if twins:
        yield "", ""
        yield title, "head"
    for twin in twins[:_TWINS]:
        alike = "equal" if twin.likeness >= 1 else f"{twin.likeness:.0%}"
        yield f"{alike:>{_LABEL - 2}}  {_place(twin.row)} and {_place(twin.twin)}", ""


def _place(place: Place) -> str:
    return f"{Path(place.file).name}:{place.line}"


def _said(label: str, text: str) -> str:
    return f"{label:<{_LABEL}}{text}"


def _warned(count: int) -> str:
    return "warn" if count else ""
