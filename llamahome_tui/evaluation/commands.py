"""`evaluate`: a model or a run on the rows of files, alone or beside its base; the parent imports no torch.

What is wrong with words, files or rows is said before a model loads.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from llamahome_tui.errors import ConfigError, DataError, LlamaHomeError, UsageError
from llamahome_tui.evaluation import verdict
from llamahome_tui.evaluation.figures import Answer, Layout, Model, changed, compared, scores, shown
from llamahome_tui.evaluation.scoring import problem
from llamahome_tui.evaluation.source import USE, drawn, of_files, of_run
from llamahome_tui.outcome import Level, Note, Outcome, Progress, Result
from llamahome_tui.telling import told
from llamahome_tui.text import clean

if TYPE_CHECKING:
    from llamahome_tui.context import Context
    from llamahome_tui.evaluation.rows import Rows
    from llamahome_tui.models.locate import Located

_MODULE = "llamahome_tui.workers.evaluate"
_NAMED = 20  # rows without a verdict that are listed


def evaluate(
    context: Context,
    model: str,
    data: Sequence[str] = (),
    metric: str | None = None,
    pattern: str = "",
    expect: str = "",
    command: str = "",
    timeout: float = 30.0,
    compare: str | None = None,
    checkpoint: str | None = None,
    rows: int = 0,
    max_tokens: int = 0,
    seed: int = 0,
    samples: int = 8,
    set: Sequence[str] = (),
) -> Iterator[Outcome]:
    """Figures of the rows under teacher forcing, and the score of greedy answers; with the base's beside them.

    Close the iterator to stop the child. Raises UsageError, ConfigError (patterns, command), NotFoundError, DataError.
    """
    chosen = metric or ("regex" if pattern else "command" if command else "")
    _check(chosen, pattern, expect, command, (rows, max_tokens, samples), timeout)
    words = verdict.words_of(command, context.cwd, context.environ) if command else []

    from llamahome_tui.evaluation.rows import read
    from llamahome_tui.jobs.evaluations import keep
    from llamahome_tui.jobs.store import RunStore
    from llamahome_tui.models.locate import locate
    from llamahome_tui.workers.child import ask
    from llamahome_tui.workers.commands import python_of, spec_of
    from llamahome_tui.workers.evaluate import EvaluateRequest
    from llamahome_tui.workers.request import GenerateRequest

    store = RunStore(context.places)
    located = locate(model, context.places, store, checkpoint=checkpoint or "", folder=context.cwd)
    if located.run is None and (checkpoint or compare):
        option = "--checkpoint" if checkpoint else "--compare base"
        raise UsageError(f"{option} goes with a run, and {model} is a model", hint=USE)
    spec = spec_of(store, located.run)
    if not data and located.run is None:
        raise UsageError(f"--data: {model} is a model, and only a run has rows of its own", hint=USE)
    source = (
        of_files(context, spec, data, set)
        if data or located.run is None
        else of_run(context, store.resolve(located.run), located.path, set)
    )
    settings = source.data
    paths, only = yield from told(lambda progress: drawn(source, progress), "looking for the held-out rows")
    found: Rows = yield from told(
        lambda progress: read(paths, settings, located.path, rows, seed, progress, only, source.now),
        "reading rows",
        "rows",
    )
    if found.kind == "text" and chosen:
        first = found.asked[0].row
        raise DataError(
            f"{first.file}:{first.line}: text: has no answer that --metric {chosen} could be asked of",
            code="evaluate.no_answer",
            hint="leave --metric out: llamahome --batch evaluate RUN --data FILE",
        )
    chosen = "" if found.kind == "text" else chosen or "exact"
    layout = Layout(found.kind, len(found.asked), [one.row.good is not False for one in found.asked])
    base_path = _other_base(context, store, spec, located) if compare and located.adapter is None else ""
    request = EvaluateRequest(
        GenerateRequest(
            path=str(located.path),
            chats=(),
            adapter=str(located.adapter or ""),
            template=settings.template,
            template_options=settings.template_options,
            max_tokens=max_tokens,
            seed=seed,
        ),
        [
            {"sequences": [[list(s.ids), list(s.mask)] for s in one.row.sequences], "good": good}
            for one, good in zip(found.asked, layout.good, strict=True)
        ],
        chosen,
        pattern,
        expect,
        base=compare == "base",
        base_path=base_path,
    )
    models = {"tuned": Model({}, {})} | ({"base": Model({}, {})} if compare else {})
    expected: dict[int, str] = {}
    ended: Mapping[str, Any] = {}
    said = Progress(f"loading {clean(located.id, limit=200)}", 0)
    yield said
    try:
        for record in ask(python_of(context, spec), _MODULE, request.to_line(), context.environ, beat_s=0.25):
            match record["type"]:
                case "beat":
                    yield said
                case "turn":
                    expected[record["index"]] = record["expected"]
                case "measured":
                    for index, *sums in record["sums"]:
                        models[record["model"]].measured[index] = tuple(sums)
                    done = sum(len(one.measured) for one in models.values())
                    width = 2 if found.kind == "pairs" else 1
                    yield (said := Progress("measuring", done // width, layout.rows * len(models), "rows"))
                case "reply":
                    answers = models[record["model"]].answers
                    answers[record["index"]] = Answer(
                        record["text"], record["score"], record["tokens"], record["finish"]
                    )
                    done = sum(len(one.answers) for one in models.values())
                    yield (said := Progress("writing", done, len(expected) * len(models), "answers"))
                case "end":
                    ended = record
    except LlamaHomeError as error:
        raise _placed(error, found) from None
    failures: list[dict[str, Any]] = []
    if words:
        failures = yield from _judged(context, words, timeout, found, expected, models)
    tuned, base = models["tuned"], models.get("base")
    result: dict[str, Any] = {
        "model": located.id,
        "revision": located.revision,
        "run": located.run,
        "adapter": None if located.adapter is None else str(located.adapter),
        "data": [str(path) for path in paths],
        "held_out": source.held_out,
        "kind": found.kind,
        "rows": layout.rows,
        "left_out": found.long,
        "metric": chosen or None,
        "scores": scores(layout, chosen, tuned),
        "base_scores": None if base is None else scores(layout, chosen, base),
        "comparison": [] if base is None else compared(layout, chosen, base, tuned, seed),
        "changed": None if base is None or not chosen else changed(layout.rows, base, tuned),
        "samples": [_sample(found, expected, row, tuned, base) for row in shown(layout.rows, samples, tuned, base)],
        "unjudged": len(failures),
        "failures": failures[:_NAMED],
        "max_tokens": ended["max_tokens"],
        "kept": None,
        "seed": seed,
        "seconds": ended["seconds"],
    }  # fmt: skip
    if located.run is not None:
        try:
            kept = keep(store.resolve(located.run), result)
            result["kept"] = f"artifacts/{kept.name}"
        except OSError as error:
            yield Note(f"the result can't be kept beside the run: {error.strerror}", Level.WARNING)
    yield Result(result)


def _check(metric: str, pattern: str, expect: str, command: str, numbers: tuple[int, int, int], timeout: float) -> None:
    for option, needs, given in (("--pattern", "regex", pattern), ("--command", "command", command)):
        if (metric == needs) != bool(given):
            raise UsageError(f"--metric {needs} and {option} go together", hint=USE)
    for option, expression in (("--pattern", pattern), ("--expect", expect)):
        if expression and (reason := problem(expression)):
            raise ConfigError(
                f"{option} {expression}: is no regular expression: {reason}", code="evaluate.pattern", hint=USE
            )
    for option, number in zip(("--rows", "--max-tokens", "--samples"), numbers, strict=True):
        if number < 0:
            raise UsageError(f"{option} {number}: give 0 or more", hint=USE)
    if timeout <= 0:
        raise UsageError(f"--timeout {timeout:g}: give more than 0", hint=USE)


def _other_base(context: Context, store: Any, spec: Mapping[str, Any], located: Located) -> str:
    """The model that a run of full fine-tuning began with."""
    from llamahome_tui.models.locate import at_revision, locate

    model = spec.get("model") or {}
    name = at_revision(str(model.get("id")), str(model.get("revision") or "main"))
    base = locate(name, context.places, store)
    if base.adapter is not None:
        raise UsageError(
            f"run {located.run} trained a whole model from another run's adapter, so it has no single base",
            hint=f"llamahome --batch evaluate {base.run} --data FILE",
        )
    return str(base.path)


def _judged(
    context: Context,
    words: list[str],
    timeout: float,
    found: Rows,
    expected: Mapping[int, str],
    models: Mapping[str, Model],
) -> Generator[Outcome, None, list[dict[str, Any]]]:
    """Ask the command for each answer; gives the rows that it had no verdict on, with the reason."""
    from dataclasses import replace

    failures: list[dict[str, Any]] = []
    total, done = sum(len(one.answers) for one in models.values()), 0

    def judging(row: Mapping[str, Any]) -> Callable[[Callable[[int, int], None]], float]:
        def judged(progress: Callable[[int, int], None]) -> float:
            alive = partial(progress, done, total)
            alive()
            return verdict.judge(words, row, context.cwd, context.environ, timeout, alive)

        return judged

    for name, one in models.items():
        for index in sorted(one.answers):
            asked = found.asked[index]
            row = {"file": asked.row.file, "line": asked.row.line}
            told_of = {
                **row, "model": name, "prompt": asked.prompt, "messages": list(asked.messages),
                "expected": expected[index], "text": one.answers[index].text,
            }  # fmt: skip
            try:
                score = yield from told(judging(told_of), "judging", "answers")
                one.answers[index] = replace(one.answers[index], score=score)
            except verdict.Failed as failed:
                failures.append({**row, "model": name, "reason": str(failed)})
            done += 1
            yield Progress("judging", done, total, "answers")
    if failures:
        first = failures[0]
        said = f"{first['file']}:{first['line']}: the command {first['reason']}"
        if len(failures) == total:
            raise ConfigError(
                f"the command gave no verdict at all; {said}", code="evaluate.command", hint=USE,
                data={"failures": failures[:_NAMED]},
            )  # fmt: skip
        yield Note(f"{len(failures)} of {total} answers have no verdict; {clean(said, limit=500)}", Level.WARNING)
    return failures


def _placed(error: LlamaHomeError, found: Rows) -> LlamaHomeError:
    """The child's error with the file and line of the row that it is about."""
    index = error.data.pop("index", None)
    if not isinstance(index, int):
        return error
    row = found.asked[index].row
    bad = {"file": row.file, "line": row.line, "field": "", "reason": error.message}
    return DataError(
        f"{row.file}:{row.line}: {error.message}", code=error.error_code, hint=error.hint,
        data={**error.data, "bad": [bad], "bad_count": 1},
    )  # fmt: skip


def _sample(found: Rows, expected: Mapping[int, str], row: int, tuned: Model, base: Model | None) -> dict[str, Any]:
    asked, answer = found.asked[row], tuned.answers[row]
    sample: dict[str, Any] = {
        "file": asked.row.file, "line": asked.row.line, "prompt": asked.prompt, "expected": expected[row],
        "text": answer.text, "score": answer.score,
    }  # fmt: skip
    other = None if base is None else base.answers.get(row)
    return sample | ({} if other is None else {"base_text": other.text, "base_score": other.score})
