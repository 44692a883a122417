"""From files of rows to token ids and masks for the trainer; the same inputs give the same rows, kept in a cache.

Uses tokenizers, jinja2 and numpy only; raises before a model is loaded.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llamahome_tui.data import split
from llamahome_tui.data.check import MAX_LISTED, Validation, bad_rows, samples, validate
from llamahome_tui.data.files import eval_file, expand, sha256_of
from llamahome_tui.data.length import LengthRule, TokenRow, max_length
from llamahome_tui.data.masks import MaskError, learned, token_mask
from llamahome_tui.data.probe import probe
from llamahome_tui.data.rows import Bad
from llamahome_tui.data.samples import Chat
from llamahome_tui.data.template import ChatTemplate, RenderError, special_tokens
from llamahome_tui.data.tokens import RowTokens, Tokens, context_of, tokenizer_digest
from llamahome_tui.demo.paths import demo_model_dir
from llamahome_tui.errors import DataError

if TYPE_CHECKING:
    from llamahome_tui.data.examples import Examples, Store, Writer
    from llamahome_tui.training.spec import Spec

__all__ = ["Prepared", "Validation", "expand", "preflight", "prepare", "validate"]

VERSION = 1  # of what is made of the same inputs: counts in the cache's key
_BATCH = 256
_SAMPLE = 64
_OPEN_ENDED = "the chat template ends an answer with no token of its own: the model may not learn where to stop"


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


def prepare(
    spec: Spec,
    model_dir: Path,
    cache: Path | None,
    progress: Callable[[int, int], None] | None = None,
    *,
    now: datetime | None = None,
) -> Prepared:
    """Read, render, tokenise and split the rows of a spec. `progress` is told bytes done and bytes in all.

    `cache` is the folder prepared data is kept in, by a hash of all that it depends on; None keeps nothing. `now` is
    the date a template may write into its prompts: give a run's own, so that a resume sees the same rows.
    Raises DataError (rows that cannot be used, more than 1% too long, nothing to learn), NotFoundError, ModelError.
    """
    from llamahome_tui.data import examples

    work = _Work(spec, model_dir, now)
    key = work.key()
    place = cache / key if cache else None
    store = examples.load(place) if place else None
    cached = store is not None
    if store is None:
        if cache:
            examples.sweep(cache)
        writer = examples.Writer(place)
        store = work.run(writer, progress)
        if writer.lost_disk:
            work.warnings.append(f"prepared data is not kept in {cache}: {writer.lost_disk}")
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
    )


def preflight(spec: Spec, model_dir: Path) -> Validation:
    """What `train start` checks before a run exists: every row is a chat, and the first ones render, tokenise and mask.

    Raises what `prepare` would raise for them: a missing template, rows without anything to learn, an empty file; and
    DataError `template.unbounded` for a template that loops or eats memory, which is tried in a child first.
    """
    work = _Work(spec, model_dir, None)
    paths = [*work.train_files, *([work.eval_file] if work.eval_file else [])]
    found = validate(paths, spec.data.format, spec.data.columns, spec.data.group)
    found.raise_if_bad()
    sample: list[Chat] = []
    for path in paths:
        reading = samples(path, spec.data.format, spec.data.columns, spec.data.group)
        sample += [chat for chat, _ in islice(reading, _SAMPLE) if isinstance(chat, Chat)]
    if work.template is not None and (spec.data.template or model_dir != demo_model_dir()):
        probe(
            work.template,
            sample,
            train_on=spec.data.train_on,
            options=spec.data.template_options,
            special=work.tokens.special,
        )
    work.tokenise(sample)
    work.refuse_bad()
    if not any(any(row.mask) for row in work.rows):
        raise _nothing_learned(spec)
    if isinstance(split_size := spec.data.eval, int | float) and not work.eval_file:
        split.wanted_rows(split_size, found.rows)
    return found


@dataclass(slots=True)
class _Work:
    """One preparation: what goes in, and what was found on the way."""

    spec: Spec
    model_dir: Path
    now: datetime | None
    train_files: list[Path] = field(init=False)
    eval_file: Path | None = field(init=False)
    template: ChatTemplate | None = field(init=False)
    tokens: Tokens = field(init=False)
    hashes: dict[str, str] = field(init=False)
    rows: list[TokenRow] = field(default_factory=list)
    bad: list[Bad] = field(default_factory=list)
    bad_count: int = 0
    warnings: list[str] = field(default_factory=list)
    format: str = ""

    def __post_init__(self) -> None:
        data = self.spec.data
        self.train_files = expand(data.train, Path("/"))
        self.eval_file = eval_file(data.eval, data.train, Path("/"))
        self.template = ChatTemplate.load(self.model_dir, data.template, self.now)
        self.tokens = Tokens.load(self.model_dir, special_tokens(self.model_dir))
        files = [*self.train_files, *([self.eval_file] if self.eval_file else [])]
        self.hashes = {str(path): sha256_of(path) for path in files}

    def key(self) -> str:
        """The hash of all that decides what is prepared."""
        data = self.spec.data
        template = self.template
        parts: dict[str, Any] = {
            "version": VERSION,
            "libraries": f"tokenizers {version('tokenizers')}",
            "train": [self.hashes[str(path)] for path in self.train_files],
            "eval": self.hashes[str(self.eval_file)] if self.eval_file else data.eval,
            "tokenizer": tokenizer_digest(self.model_dir),
            "template": [template.text, template.tool_text, dict(template.special)] if template else None,
            "date": (self.now or datetime.now()).date().isoformat() if template and template.tells_time else "",  # noqa: DTZ005 - the local date, as the template writes it
            "context": context_of(self.model_dir),
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
            "consent": "data.long" in self.spec.given,
        }
        text = json.dumps(parts, sort_keys=True, ensure_ascii=True, default=dict)
        return hashlib.sha256(text.encode()).hexdigest()[:40]

    def run(self, writer: Writer, progress: Callable[[int, int], None] | None) -> Store:
        total = sum(path.stat().st_size for path in [*self.train_files, *([self.eval_file] if self.eval_file else [])])
        done = 0

        def read(paths: Sequence[Path]) -> int:
            nonlocal done
            for path in paths:
                self._read(path, partial(_tell, progress, done, total) if progress else None)
                done += path.stat().st_size
            return len(self.rows)

        trained = read(self.train_files)
        read([self.eval_file] if self.eval_file else [])
        self.refuse_bad()
        if not any(any(row.mask) for row in self.rows):
            raise _nothing_learned(self.spec)
        train, evaluation, dropped = self._sides(trained)
        limit = max_length(self.spec.data, self.rows, context_of(self.model_dir))
        rule = LengthRule(limit, self.spec.data.long, "data.long" in self.spec.given)
        rule.refuse([self.rows[row] for row in train])
        train, lost = rule.apply(self.rows, train, writer)
        evaluation, lost_eval = rule.apply(self.rows, evaluation, writer)
        dropped |= {name: lost[name] + lost_eval[name] for name in lost}
        if not train:
            raise _nothing_learned(self.spec)
        longest = max(writer.length(row) for row in [*train, *evaluation])
        self._warn(dropped)
        facts = {
            "dropped": dropped,
            "max_length": min(limit, longest) if self.spec.data.max_length == "auto" else limit,
            "format": self.format,
            "warnings": self.warnings,
        }
        return writer.finish(train, evaluation, facts)

    def _read(self, path: Path, on_bytes: Callable[[int], None] | None) -> None:
        data = self.spec.data
        waiting: list[Chat] = []
        for read, known in samples(path, data.format, data.columns, data.group, on_bytes):
            self.format = self.format or known
            if isinstance(read, Bad):
                self._note(read)
                continue
            assert isinstance(read, Chat)
            waiting.append(read)
            if len(waiting) == _BATCH:
                self.tokenise(waiting)
                waiting = []
        self.tokenise(waiting)

    def tokenise(self, waiting: Sequence[Chat]) -> None:
        """Render, tokenise and mask chats; those that cannot be are noted as bad."""
        rendered = []
        for chat in waiting:
            try:
                rendered.append((chat, self._learned(chat)))
            except (RenderError, MaskError) as error:
                self._note(Bad(chat.file, chat.line, "", str(error)))
        encoded = self.tokens.encode([found.text for _, found in rendered])
        for (chat, found), row in zip(rendered, encoded, strict=True):
            try:
                mask = token_mask(found.text, row.offsets, found.spans)
            except MaskError as error:
                self._note(Bad(chat.file, chat.line, "", str(error)))
                continue
            self._add(chat, found.text, row, mask)
            if found.open_ended and _OPEN_ENDED not in self.warnings:
                self.warnings.append(_OPEN_ENDED)

    def _learned(self, chat: Chat) -> Any:
        data = self.spec.data
        if self.template is None:
            if chat.raw:
                return self.tokens.plain(chat, data.train_on)
            raise DataError(
                f"{self.model_dir} has no chat template, and the rows are chats",
                code="template.missing",
                hint="name one: llamahome --batch train start SPEC --set data.template=FILE",
            )
        if any("tool_calls" in message for message in chat.messages) and not self.template.knows_tools:
            raise MaskError("it calls tools, and the chat template leaves tool calls out")
        return learned(
            self.template,
            chat,
            train_on=data.train_on,
            options=data.template_options,
            special=self.tokens.special,
        )

    def _add(self, chat: Chat, text: str, row: RowTokens, mask: bytearray) -> None:
        ids = row.ids
        if self.template is None:
            ids, mask = self.tokens.framed(ids, mask)
        if mask:
            mask[0] = 0  # nothing comes before the first token that could predict it
        content = hashlib.blake2b(text.encode(), digest_size=16).digest()
        self.rows.append(TokenRow(array("i", ids), mask, content, chat.group, chat.file, chat.line))

    def _note(self, bad: Bad) -> None:
        self.bad_count += 1
        if len(self.bad) < MAX_LISTED:
            self.bad.append(bad)

    def refuse_bad(self) -> None:
        """Raises DataError if any row was bad."""
        if self.bad_count:
            raise bad_rows(self.bad, self.bad_count)

    def _sides(self, trained: int) -> tuple[list[int], list[int], dict[str, int]]:
        """Row numbers for training and evaluation, and how many were left out of training as they stand in both."""
        data = self.spec.data
        if self.eval_file:
            evaluation = list(range(trained, len(self.rows)))
            seen = {self.rows[row].content for row in evaluation}
            train = [row for row in range(trained) if self.rows[row].content not in seen]
            return train, evaluation, {"in_eval": trained - len(train)}
        count = split.wanted_rows(data.eval, trained)
        contents = [row.content for row in self.rows]
        held = (
            set(split.hold_out(contents, [row.group for row in self.rows], count, data.split_seed)) if count else set()
        )
        if count and not held:
            raise DataError(
                "no rows can be held out: all of them are equal, or of one group",
                hint="name a file of held-out rows: llamahome --batch train start SPEC --set data.eval=FILE",
            )
        return [row for row in range(trained) if row not in held], sorted(held), {"in_eval": 0}

    def _warn(self, dropped: Mapping[str, int]) -> None:
        if dropped["long"]:
            self.warnings.append(f"{dropped['long']} rows are too long and left out")
        if dropped["untrained"]:
            self.warnings.append(f"{dropped['untrained']} rows have nothing to learn within their length")
        if dropped["in_eval"]:
            self.warnings.append(f"{dropped['in_eval']} rows also stand in the eval file and are not trained on")


def _tell(progress: Callable[[int, int], None], before: int, total: int, at: int) -> None:
    progress(before + at, total)


def _nothing_learned(spec: Spec) -> DataError:
    return DataError(
        f'no row has a token to learn (data.train_on = "{spec.data.train_on}"): every label would be masked',
        code="data.all_masked",
        hint="look at the rows' roles and weights, then llamahome --batch train start SPEC",
        data={"bad": []},
    )
