"""From files of rows to token ids and masks for the trainer; the same inputs give the same rows, kept in a cache.

Rows stream: a file is read, its rows are encoded in children (`data/pool.py`), and tokens go to disk; what this process
keeps of a row is a hash and a few numbers. Raises before a model is loaded.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from llamahome_tui.data import plugged
from llamahome_tui.data.check import MAX_LISTED, Validation, bad_rows, samples, validate
from llamahome_tui.data.encode import Encoded, Encoding
from llamahome_tui.data.files import Stamp, eval_file, expand, sha256_of, stamp_of, weights_by_file
from llamahome_tui.data.formats import FORMATS
from llamahome_tui.data.length import LengthRule, most_tokens
from llamahome_tui.data.pool import Pool, workers_of
from llamahome_tui.data.readers.source import named_kind
from llamahome_tui.data.rows import Bad
from llamahome_tui.data.samples import Judged, Pair, Sample, Text, chats_of
from llamahome_tui.data.template import ChatTemplate, special_tokens, template_files
from llamahome_tui.data.tokens import context_of, tokenizer_digest, tokenizer_file
from llamahome_tui.errors import DataError
from llamahome_tui.training.methods import METHODS, data_of, method_of

if TYPE_CHECKING:
    from array import array

    from llamahome_tui.data.examples import Examples, Kind, Store
    from llamahome_tui.data.split import Numbers
    from llamahome_tui.data.table import RowTable
    from llamahome_tui.data.writer import Writer
    from llamahome_tui.training.spec import Spec

__all__ = ["Prepared", "Validation", "expand", "preflight", "prepare", "prepared", "validate"]

VERSION = 2  # of what is made of the same inputs: counts in the cache's key
BATCH = 256  # rows that go to a child together,
BATCH_TEXT = 256 << 10  # and characters in them
_SAMPLE = 64
_KINDS = {"rows": "answers", "pairs": "preference pairs", "labels": "labelled answers"}
_OPEN_ENDED = "the chat template ends an answer with no token of its own: the model may not learn where to stop"

Progress: TypeAlias = Callable[[int, int, int], None]
Keep: TypeAlias = Callable[["array[int]", "bytes | bytearray"], None]  # of a sequence's ids and mask


@dataclass(frozen=True, slots=True)
class Prepared:
    """All a trainer needs of its data. `hashes` are of the files as they were read."""

    train: Examples
    eval: Examples
    hashes: Mapping[str, str]
    dropped: Mapping[str, int]  # rows left out: "long", "untrained", "in_eval"
    max_length: int
    format: str
    key: str
    cached: bool
    warnings: tuple[str, ...] = ()
    kind: Kind = "rows"


def prepare(
    spec: Spec,
    model_dir: Path,
    cache: Path | None,
    progress: Progress | None = None,
    *,
    now: datetime | None = None,
) -> Prepared:
    """Read, render, tokenise and split the rows of a spec.

    `progress` is told bytes read, bytes in all and rows done, several times a second; what it raises stops the work
    and leaves nothing behind. `cache` is the folder prepared data is kept in, by a hash of all that it depends on; None
    keeps nothing. `now` is the date a template may write into its prompts: give a run's own, so that a resume sees the
    same rows. The result does not depend on `training.max_workers`.
    Raises DataError (rows that cannot be used, more than 1% too long, nothing to learn), NotFoundError, ModelError.
    """
    from llamahome_tui.data import examples, writer

    work = _Work(spec, model_dir, now, progress)
    key = work.key()
    place = cache / key if cache else None
    store = examples.load(place) if place else None
    cached = store is not None
    if store is None:
        if cache:
            writer.sweep(cache)
        with writer.Writer(place) as out:
            store = work.run(out)
            if out.lost_disk:
                work.warnings.append(f"prepared data is not kept in {cache}: {out.lost_disk}")
    return Prepared(
        train=store.train,
        eval=store.eval,
        hashes=work.hashes,
        dropped=store.facts["dropped"],
        max_length=store.facts["max_length"],
        format=store.facts["format"],
        key=key,
        cached=cached,
        warnings=tuple(dict.fromkeys([*store.facts["warnings"], *work.warnings])),
        kind=store.kind,
    )


def prepared(spec: Spec, model_dir: Path, cache: Path) -> Store | None:
    """What `prepare` keeps of the same inputs since an earlier time, or None; the files are hashed, nothing is made."""
    from llamahome_tui.data import examples

    return examples.load(cache / _Work(spec, model_dir, None, None).key())


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Files in the order they are read, and the numbers (over all of them) of the rows that are held out."""

    files: tuple[Path, ...]
    rows: tuple[int, ...]
    hashes: Mapping[str, str]


def held_out(spec: Spec, model_dir: Path, progress: Progress | None = None, *, now: datetime | None = None) -> HeldOut:
    """Which rows `prepare` gives for evaluation, told as rows of the files; raises what it raises."""
    work = _Work(spec, model_dir, now, progress)
    return HeldOut(tuple(work.files), tuple(work.held_out().tolist()), work.hashes)


def preflight(spec: Spec, model_dir: Path) -> int:
    """What `train start` checks before a run exists: every row is a sample, and the first ones render and tokenise.

    Gives the rows that are left to train on where none is dropped; of rows that must stay together it is not known
    how many are held out, and then all count. Raises what `prepare` would raise for them: a missing template, rows
    without anything to learn, an empty file, and DataError `template.unbounded` for a template that loops or eats
    memory.
    """
    from llamahome_tui.data.split import wanted_rows

    work = _Work(spec, model_dir, None, None)
    data = spec.data
    found = validate(work.train_files, data.format, data.columns, data.group)
    if work.eval_file:
        held = validate([work.eval_file], data.format, data.columns, data.group)
        if held.is_empty:
            found.raise_if_bad()
            raise _no_eval_rows(held.bad)
        found.with_bad_of(held).raise_if_bad()
    else:
        found.raise_if_bad()
    first: list[Sample] = []
    for path in work.files:
        reading = samples(path, data.format, data.columns, data.group)
        first += [read for read, _ in islice(reading, _SAMPLE) if not isinstance(read, Bad)]
    for sample in first:
        work.check_kind(sample)
    learns = False
    with Pool(work.encoding) as pool:
        for batch in pool.encode(first[at : at + 16] for at in range(0, len(first), 16)):
            for one in batch:
                if isinstance(one, Bad):
                    work.note(one)
                else:
                    learns = learns or all(1 in row.mask for row in one.sequences)
    work.refuse_bad()
    if not learns:
        raise _nothing_learned(spec)
    if work.eval_file or not (isinstance(data.eval, int | float) or data.eval == "auto"):
        return found.rows
    held_out = wanted_rows(data.eval, found.rows)
    return found.rows if data.group else found.rows - held_out


@dataclass(slots=True)
class _Work:
    """One preparation: what goes in, and what was found on the way."""

    spec: Spec
    model_dir: Path
    now: datetime | None
    progress: Progress | None
    encoding: Encoding = field(init=False)
    train_files: list[Path] = field(init=False)
    eval_file: Path | None = field(init=False)
    template: ChatTemplate | None = field(init=False)
    hashes: dict[str, str] = field(init=False)
    rule: LengthRule = field(init=False)
    stamps: dict[Path, Stamp] = field(init=False)  # of all that is read, as it was before
    kind: Kind | None = None
    bad: list[Bad] = field(default_factory=list)
    bad_count: int = 0
    warnings: list[str] = field(default_factory=list)
    formats: dict[str, None] = field(default_factory=dict)  # of the files, as they are met
    _total: int = 0
    _read: int = 0
    _learns: bool = False

    def __post_init__(self) -> None:
        self.spec = replace(self.spec, data=data_of(self.spec))
        data = self.spec.data
        self.encoding = Encoding(self.model_dir.absolute(), data, self.now)
        self.eval_file = eval_file(data.eval, data.train, Path("/"))
        # A glob may well hold the eval file too.
        self.train_files = [path for path in expand(data.train, Path("/")) if path != self.eval_file]
        if not self.train_files:
            raise DataError(
                f"data.eval: {self.eval_file} is the only file of data.train, so nothing is left to train on",
                hint="leave data.eval out: llamahome --batch train start SPEC --set data.eval=auto",
            )
        self.stamps = {path: stamp_of(path) for path in (*self.files, *self._model_files())}
        self.template = ChatTemplate.load(self.model_dir, data.template, self.now)
        limit = most_tokens(data, context_of(self.model_dir))
        self.rule = LengthRule(limit, data.long, "data.long" in self.spec.given)
        self._total = sum(path.stat().st_size for path in self.files)
        self.hashes = {}
        for path in self.files:
            self._tell(0)
            self.hashes[str(path)] = sha256_of(path, lambda: self._tell(0))

    @property
    def files(self) -> list[Path]:
        """The files of the rows, those to evaluate on last."""
        return [*self.train_files, *([self.eval_file] if self.eval_file else [])]

    def key(self) -> str:
        """The hash of all that decides what is prepared."""
        data = self.spec.data
        template = self.template
        parts: dict[str, Any] = {
            "version": VERSION,
            "libraries": f"tokenizers {version('tokenizers')}",
            "train": [self.hashes[str(path)] for path in self.train_files],
            "kinds": [named_kind(path) for path in self.files],
            "weights": [self._weights()[str(path)] for path in self.train_files],
            "eval": self.hashes[str(self.eval_file)] if self.eval_file else data.eval,
            "tokenizer": tokenizer_digest(self.model_dir),
            "special": special_tokens(self.model_dir),
            "template": [template.text, template.tool_text] if template else None,
            "date": (self.now or datetime.now()).date().isoformat() if template and template.tells_time else "",  # noqa: DTZ005 - the local date, as the template writes it
            "limit": self.rule.limit,
            "settings": {
                name: getattr(data, name)
                for name in (
                    "format",
                    "columns",
                    "template_options",
                    "train_on",
                    "max_length",
                    "long",
                    "split_seed",
                    "group",
                )
            },
            "consent": self.rule.consent,
            **({"plugins": list(found)} if (found := plugged.versions(FORMATS)) else {}),
        }
        text = json.dumps(parts, sort_keys=True, ensure_ascii=True, default=dict)
        return hashlib.sha256(text.encode()).hexdigest()[:40]

    def run(self, writer: Writer) -> Store:
        """Encode every row, and decide which of them are for what."""
        return self._finish(self._encoded(writer.add), writer)

    def held_out(self) -> Numbers:
        """The rows for evaluation that something is kept of, without keeping their tokens."""
        table = self._encoded(lambda ids, mask: None)
        data = self.spec.data
        return table.kept(table.sides(data.eval, str(self.eval_file or ""), data.split_seed)[1])

    def _encoded(self, add: Keep) -> RowTable:
        from llamahome_tui.data.table import RowTable

        table = RowTable(grouped=bool(self.spec.data.group))
        workers = workers_of(self.spec.training.max_workers)
        with Pool(self.encoding, workers, on_wait=lambda: self._tell(len(table))) as pool:
            for found in pool.encode(self._batches()):
                for one in found:
                    if isinstance(one, Bad):
                        self.note(one)
                    else:
                        self._add(one, table, add)
                self._tell(len(table))
        self._refuse_changed()
        self.refuse_bad()
        if not self._learns:
            raise _nothing_learned(self.spec)
        return table

    def _model_files(self) -> list[Path]:
        """The files that say how rows become tokens."""
        return [tokenizer_file(self.model_dir), *template_files(self.model_dir, self.spec.data.template)]

    def _refuse_changed(self) -> None:
        """Raises DataError for a file that is not as it was when the key was made: both may have been read."""
        for path, before in self.stamps.items():
            if stamp_of(path) == before or (path.is_file() and sha256_of(path) == self.hashes.get(str(path))):
                continue
            reason = "has changed while the data were prepared"
            raise DataError(
                f"{path} {reason}",
                code="data.changed",
                hint="start again when nothing writes to it: llamahome --batch train start SPEC",
                data={"bad": [Bad(str(path), 0, "", reason).as_dict()], "bad_count": 1},
            )

    def _finish(self, table: RowTable, writer: Writer) -> Store:
        """Split the rows, refuse what is too long, and close the store."""
        data, rule = self.spec.data, self.rule
        train, evaluation, in_eval = table.sides(data.eval, str(self.eval_file or ""), data.split_seed)
        if in_eval and not len(train):
            grouped = f" or shares {data.group} with it" if data.group else ""
            raise DataError(
                f"data.eval: each row of data.train stands in {self.eval_file}{grouped}: nothing is left to train on",
                hint="hold out rows of the training files: llamahome --batch train start SPEC --set data.eval=auto",
            )
        too_long = table.longer_than(rule.limit, train)
        rule.refuse([rule.too_long(*place) for place in table.places(too_long, MAX_LISTED)], len(too_long), len(train))
        lost = table.lost([train, evaluation], rule.limit if rule.drops else None)
        dropped = {"in_eval": in_eval, "long": lost[0], "untrained": lost[1]}
        cut = 0 if rule.drops else sum(len(table.longer_than(rule.limit, side)) for side in (train, evaluation))
        train = table.weighted(table.kept(train), self._weights(), data.split_seed)
        train, evaluation = table.pieces(train), table.pieces(table.kept(evaluation))
        if not len(train):
            raise _nothing_learned(self.spec)
        self._warn(dropped, cut)
        facts = {
            "dropped": dropped,
            "max_length": min(rule.limit, table.longest) if data.max_length == "auto" else rule.limit,
            "format": ", ".join(self.formats),
            "warnings": self.warnings,
        }
        return writer.finish(self.kind or "rows", table.good, train, evaluation, facts)

    def _batches(self) -> Iterator[list[Sample]]:
        """The samples of all files, some at a time; bad ones are noted."""
        data = self.spec.data
        for path in self.files:
            before = self._read
            waiting: list[Sample] = []
            text = 0

            def position(at: int) -> None:
                self._read = before + at  # noqa: B023 - called while this file is read

            for read, known in samples(path, data.format, data.columns, data.group, position):
                if known:
                    self.formats[known] = None
                if isinstance(read, Bad):
                    self.note(read)
                    continue
                self.check_kind(read)
                waiting.append(read)
                text += _characters(read)
                if len(waiting) >= BATCH or text >= BATCH_TEXT:
                    yield waiting
                    waiting, text = [], 0
            self._read = before + path.stat().st_size
            if waiting:
                yield waiting

    def check_kind(self, sample: Sample) -> None:
        """Raises DataError for rows the method cannot train on, and for two kinds of rows in one run."""
        kind: Kind = "pairs" if isinstance(sample, Pair) else "labels" if isinstance(sample, Judged) else "rows"
        if kind == self.kind:
            return
        method = self.spec.method.kind
        wanted = method_of(method).rows
        if kind != wanted:
            fitting = [name for name, one in METHODS.items() if one.rows == kind]
            reason = f"these rows are {_KINDS[kind]} (for {', '.join(fitting)}), and method.kind = {method} trains on "
            hint = f"train with them: llamahome --batch train start SPEC --set method.kind={fitting[0]}"
            raise _of_row(sample, reason + _KINDS[wanted], "data.wrong_kind", hint)
        if self.kind is not None:
            reason = f"these rows are {_KINDS[kind]}, and those before are {_KINDS[self.kind]}"
            raise _of_row(sample, reason, "data.mixed_kinds")
        self.kind = kind

    def _add(self, row: Encoded, table: RowTable, add: Keep) -> None:
        self._learns = self._learns or any(1 in one.mask for one in row.sequences)
        for doubt in (*row.doubts, _OPEN_ENDED) if row.open_ended else row.doubts:
            if doubt not in self.warnings:
                self.warnings.append(doubt)
        pieces = self.rule.apply(row)
        for piece in pieces:
            for ids, mask in piece:
                add(ids, mask)
        table.add(row, [max(len(ids) for ids, _ in piece) for piece in pieces])

    def note(self, bad: Bad) -> None:
        """Remember a bad row, and count it."""
        self.bad_count += 1
        self.bad.append(bad)
        if len(self.bad) > 10 * MAX_LISTED:
            self._sort_bad()

    def refuse_bad(self) -> None:
        """Raises DataError if any row was bad."""
        if self.bad_count:
            self._sort_bad()
            raise bad_rows(self.bad, self.bad_count, "data stats SPEC")

    def _sort_bad(self) -> None:
        """Keep the first ones: what reading finds and what encoding finds come in no one order."""
        order = {str(path): at for at, path in enumerate(self.files)}
        self.bad = sorted(self.bad, key=lambda bad: (order.get(bad.file, 0), bad.line))[:MAX_LISTED]

    def _weights(self) -> dict[str, float]:
        """How often the rows of each training file count."""
        found = weights_by_file(self.spec.data.train, self.spec.data.weights, Path("/"))
        return {str(path): weight for path, weight in found.items()}

    def _tell(self, rows: int) -> None:
        if self.progress:
            self.progress(self._read, self._total, rows)

    def _warn(self, dropped: Mapping[str, int], cut: int) -> None:
        if dropped["long"]:
            self.warnings.append(f"{dropped['long']} rows are too long and left out")
        if cut:
            how = "split into pieces" if self.rule.long == "split" else "cut"
            self.warnings.append(f"{cut} rows are longer than {self.rule.limit} tokens and {how}")
        if dropped["untrained"]:
            self.warnings.append(f"{dropped['untrained']} rows have nothing to learn within their length")
        if dropped["in_eval"]:
            grouped = f", or share {self.spec.data.group} with a row of it," if self.spec.data.group else ""
            self.warnings.append(
                f"{dropped['in_eval']} rows also stand in the eval file{grouped} and are not trained on"
            )


def _characters(sample: Sample) -> int:
    """About how much text there is in a sample."""
    if isinstance(sample, Text):
        return len(sample.text)
    return sum(len(str(one.get("content") or "")) for chat in chats_of(sample) for one in chat.messages)


def _of_row(
    sample: Sample, reason: str, code: str, hint: str = "see which format does what: llamahome --batch data formats"
) -> DataError:
    bad = Bad(sample.file, sample.line, "", reason)
    return DataError(
        str(bad),
        code=code,
        hint=hint,
        data={"bad": [bad.as_dict()], "bad_count": 1},
    )


def _no_eval_rows(bad: Sequence[Bad]) -> DataError:
    return DataError(
        f"data.eval: {bad[0]}",
        hint="hold out rows of the training files: llamahome --batch train start SPEC --set data.eval=auto",
        data={"bad": [one.as_dict() for one in bad], "bad_count": len(bad)},
    )


def _nothing_learned(spec: Spec) -> DataError:
    return DataError(
        f'no row has a token to learn (data.train_on = "{spec.data.train_on}"): every label would be masked',
        code="data.all_masked",
        hint="look at the rows' roles and weights, then llamahome --batch train start SPEC",
        data={"bad": []},
    )
