"""The training loop: steps, and between them evaluation, checkpoints and what people ask for, always in that order."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llamahome_tui.errors import ResourceError, TrainingError
from llamahome_tui.jobs import answers
from llamahome_tui.jobs.child import Child
from llamahome_tui.jobs.control import Request, rate_of
from llamahome_tui.jobs.recovery import newest_complete_checkpoint
from llamahome_tui.jobs.replay import Script
from llamahome_tui.training import auto
from llamahome_tui.training.layout import Order
from llamahome_tui.training.methods import method_of
from llamahome_tui.training.trainer import evaluate, flops, memory, rng, snapshot
from llamahome_tui.training.trainer.batches import Item, Items
from llamahome_tui.training.trainer.counters import Best, Counters
from llamahome_tui.training.trainer.evaluate import Interrupted, Writer
from llamahome_tui.training.trainer.ranks import ALONE, Ranks
from llamahome_tui.training.trainer.report import Report
from llamahome_tui.training.trainer.saving import Saving
from llamahome_tui.training.trainer.schedule import factor
from llamahome_tui.training.trainer.step import Stepper, StepTooLarge, Taken

if TYPE_CHECKING:
    from llamahome_tui.training.spec import Spec

STOP_AGAIN_S = 1.0  # the same while a stop waits for it
STOP_WAITS_S = 30.0  # for so long at most, and for a quarter of the grace: a save takes its own time too


@dataclass(frozen=True, slots=True)
class Held:
    """What is held out for evaluation, and how the model answers it."""

    rows: Items
    writer: Writer
    prompts: Sequence[tuple[str, Sequence[int]]]  # text and ids of `samples.prompts`


class Loop:
    """Runs from the counters' step to the last one, or until someone asks for an end."""

    def __init__(
        self,
        child: Child,
        spec: Spec,
        stepper: Stepper,
        order: Order,
        held: Held,
        counters: Counters,
        total: int,
        notes: Callable[[Counters], dict[str, Any]],
        script: Script,
        ranks: Ranks = ALONE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`clock` says when a checkpoint is due."""
        self.child = child
        self._ranks = ranks
        self.child.step = counters.step
        self.spec = spec
        self.counters = counters
        self._stepper = stepper
        self._trainee = stepper.trainee
        self._order = order
        self._held = held
        self._total = total
        self._notes = notes
        self._script = script
        self._warmup = auto.warmup_steps(spec.training.warmup, total)
        self._evaluate_every = auto.evaluation_every(spec.evaluation.every_steps, total)
        self._higher = auto.higher_is_better(spec.evaluation.metric, spec.evaluation.higher_is_better)
        self._report = Report(
            child.emit,
            counters,
            total=total,
            log_every=spec.training.log_every,
            epoch=order.epoch,
            metrics=stepper.objective.metrics,
            flops=flops.cost_of(stepper.trainee, reference=method_of(spec.method.kind).reference).of,
            peak_flops=flops.peak_of(stepper.trainee, ranks.size),
        )
        self._saving = Saving(child, spec, counters.step, Path(self._best_path()).name, self._lost, clock)
        self._best_unsaved = False  # the best weights so far are those of this step
        self._best_before: Best | None = None
        self._began = time.monotonic() - counters.elapsed_s
        answers.forget_after(child.run, counters.step)

    def run(self) -> str:
        """Train; gives the reason of the `end` event: completed, stopped or paused."""
        try:
            return self._run()
        finally:
            self._saving.finish()

    def _run(self) -> str:
        counters = self.counters
        self._report.progress()
        try:
            reason = self._between()
            while not reason and counters.step < self._total and not counters.early_stopped:
                self._step()
                reason = self._between()
        except (RuntimeError, MemoryError) as error:
            if not memory.is_exhausted(error):
                raise
            raise ResourceError(
                f"memory ran out beside the step's own work, after step {counters.step}: {error}",
                hint=f"free some of it, then: llamahome --batch runs resume {self.child.run.id}",
                code="training.out_of_memory",
                data={"step": counters.step},
            ) from error
        return reason or "completed"

    def _step(self) -> None:
        counters = self.counters
        rate = counters.peak_rate * factor(self.spec.training.scheduler, counters.step, self._total, self._warmup)
        started = time.perf_counter()
        rows, following = self._order.rows_of(counters.step), self._following()
        self._ranks.tell("take", rows, rate, following)
        try:
            taken = self._stepper.take(rows, rate, following)
        except StepTooLarge as found:
            self._save("before giving up", wait=True)
            raise self._too_large(found) from found
        counters.micro = self._stepper.micro
        counters.step += 1
        self.child.step = counters.step
        counters.tokens += taken.tokens
        if taken.sound:
            counters.not_finite_in_a_row = 0
            counters.trained_tokens += taken.trained
            counters.interval.add(taken.loss, taken.weight, taken.sums)
        else:
            self._skipped(taken)
        self._report.stepped(taken, time.perf_counter() - started, rate, lambda: self._stepper.peak_bytes)

    def _following(self) -> Sequence[int]:
        after = self.counters.step + 1
        return self._order.rows_of(after) if self._stepper.ahead and after < self._total else ()

    def _too_large(self, found: StepTooLarge) -> ResourceError:
        resume = f"llamahome --batch runs resume {self.child.run.id} --set"
        if found.rows > 1:
            hint = f"allow smaller micro-batches: {resume} recovery.oom=split"
        else:
            fitting = min(found.fitted, found.length - 1) or found.length // 2
            hint = f"rows of {fitting} tokens should fit: {resume} data.max_length={fitting}"
            if self.counters.gradient_checkpointing is not True:
                hint = f"keep less for the backward pass: {resume} training.gradient_checkpointing=true; or {hint}"
        return ResourceError(
            f"a micro-batch of {found.shown} tokens does not fit in memory: {found.said}",
            hint=hint,
            code="training.out_of_memory",
            data={"step": self.counters.step, "rows": found.rows, "length": found.length, "fitted": found.fitted},
        )

    def _skipped(self, taken: Taken) -> None:
        counters = self.counters
        counters.skipped_steps += 1
        counters.not_finite_in_a_row += 1
        what = "loss" if not math.isfinite(taken.loss) else "gradient"
        limit = self.spec.recovery.nan_limit
        self.child.emit(
            "warning",
            step=counters.step,
            message=f"the {what} is not finite: step skipped ({counters.not_finite_in_a_row} of {limit} in a row)",
        )
        if counters.not_finite_in_a_row >= limit:
            raise TrainingError(
                f"the {what} was not finite in {limit} steps in a row, up to step {counters.step}",
                hint=f"lower the rate: llamahome --batch runs resume {self.child.run.id} "
                f"--set training.learning_rate={counters.peak_rate / 3:.0e}",
                code="training.not_finite",
                data={"step": counters.step},
            )

    def _between(self) -> str:
        """All that may happen between two steps; gives a reason to end, or an empty text."""
        self._saving.settle()
        try:
            self._evaluate_if_due()
            self._write_samples_if_due()
        except Interrupted:
            pass
        if self._save_is_due():
            self._save()
        self._saving.tell_of_mirror()
        for request in (*self._script.due(self.counters.step), *self.child.requests()):
            self._obey(request)
        if self._best_unsaved:  # an evaluation that was asked for may find the best too
            self._save()
        if self.child.stopping:
            self._save_for_stop()
            return "stopped"
        if self.child.pausing:
            self._save("before the pause", wait=True)
            if self._kept:
                return self._how_it_leaves()
            self.child.refuse_pause("the disk is full: there is no room for its checkpoint, training goes on")
            return self._between()  # with the evaluation that the pause has cut short
        return ""

    def _how_it_leaves(self) -> str:
        return "stopped" if self.child.stopping else "paused"  # also a stop that came while it was saved

    @property
    def _kept(self) -> bool:
        """Whether a later attempt can go on from this very step."""
        return self._saving.at_step == self.counters.step or self.counters.step == 0

    def _save_for_stop(self) -> None:
        """Save; a full disk is given a part of the grace to become less full, then what is lost is said."""
        counters, best = self.counters, self.counters.best
        until = time.monotonic() + min(STOP_WAITS_S, self.spec.recovery.grace_s / 4)
        self._save("before leaving", again_s=STOP_AGAIN_S, wait=True)
        while not self._kept and time.monotonic() < until:
            time.sleep(STOP_AGAIN_S)
            counters.best = best
            self._save(again_s=STOP_AGAIN_S, quiet=True, wait=True)
        if self._kept:
            return
        newest = newest_complete_checkpoint(self.child.run)
        left = f"the newest complete one is checkpoints/{newest.path.name}" if newest is not None else "there is none"
        lost = counters.step - (newest.step if newest is not None else 0)
        self.child.emit(
            "warning",
            step=counters.step,
            message=f"stopped without a checkpoint of step {counters.step}, because the disk is full: {left}; "
            f"the work of {lost} {'step' if lost == 1 else 'steps'} is lost",
        )

    def _evaluate_if_due(self) -> None:
        step = self.counters.step
        due = auto.evaluates_at(step, self._evaluate_every, self._total)
        if due and self._held.rows and self.counters.evaluated_at < step:
            self._evaluate()

    def _evaluate(self) -> None:
        """Measure, remember the best, and keep its weights; may end the run by `patience`."""
        self.child.emit("phase", phase="eval", step=self.counters.step)
        started = time.perf_counter()
        counters, evaluation = self.counters, self.spec.evaluation
        self._ranks.tell("measure")
        measured = evaluate.measure(
            self._trainee,
            self._stepper.objective,
            self._held.rows,
            self._stepper.batching,
            self._stepper.micro,
            self._poll,
            self._ranks,
        )
        found = {f"eval_{name}": value for name, value in measured.items()}
        if evaluation.generate_rows:
            found["eval_exact"] = self._answer_rows(self._held.rows[: evaluation.generate_rows])
        counters.evaluated_at = counters.step
        shown: dict[str, Any] = {name: value if math.isfinite(value) else None for name, value in found.items()}
        self.child.emit("metrics", step=counters.step, **shown, eval_seconds=round(time.perf_counter() - started, 3))
        self.child.emit("phase", phase="train", step=counters.step)
        value = found[evaluation.metric]
        if counters.step and math.isfinite(value):
            self._compare(value)

    def _answer_rows(self, items: Sequence[Item]) -> float:
        """Keep what the model writes on these rows; gives the share it answers exactly."""
        found = self._held.writer.answer(items, self._poll)
        try:
            answers.leave(self.child.run, self.counters.step, found)
        except OSError as error:
            said = f"the answers of this evaluation can't be kept: {error.strerror}"
            self.child.emit("warning", step=self.counters.step, message=said)
        return sum(one.right for one in found) / max(1, len(found))

    def _compare(self, value: float) -> None:
        self._saving.settle(wait=True)  # whether the best so far is kept, is known then
        counters = self.counters
        if counters.best is None or not counters.best.better_than(value, self._higher):
            path = f"checkpoints/step-{counters.step}"
            self._best_before = counters.best
            counters.best = Best(self.spec.evaluation.metric, value, counters.step, path)
            counters.evaluations_without_gain = 0
            self._best_unsaved = self._saving.at_step != counters.step
            return
        counters.evaluations_without_gain += 1
        patience = self.spec.evaluation.patience
        if 0 < patience <= counters.evaluations_without_gain:
            counters.early_stopped = True

    def _write_samples_if_due(self) -> None:
        """Before the first step, every so many, and after the last: what the run has changed shows in the first and
        the last of them."""
        step, every = self.counters.step, self.spec.samples.every_steps
        last = step == self._total or self.counters.early_stopped
        if step == 0 or last or (every > 0 and step % every == 0):
            self._write_samples()

    def _write_samples(self) -> None:
        """Once for a step: the same weights write the same again."""
        counters = self.counters
        if counters.sampled_at == counters.step:
            return
        for text, ids in self._held.prompts:
            written = self._held.writer.write([ids], self.spec.samples.max_new_tokens, self._poll)
            self.child.emit("sample", step=counters.step, prompt=text, text=written[0])
        counters.sampled_at = counters.step

    def _poll(self) -> None:
        """Between the batches of an evaluation: leave when asked to, and show that it goes on."""
        if self.child.stopping or self.child.pausing:
            raise Interrupted
        self._ranks.check()
        self._report.alive()

    def _obey(self, request: Request) -> None:
        if request.op == "save":
            self._save(asked=True, wait=True)
            saved = self._saving.at_step == self.counters.step
            self.child.answer(request, "applied" if saved else "refused", "" if saved else "the disk is full")
        elif request.op == "eval":
            self._evaluate_now(request)
        elif request.op == "sample":
            self._write_now(request)
        elif request.op == "lr":
            self._set_rate(request)
        elif request.op in ("stop", "pause"):  # only a replay's own come here
            self.child.leave(request)
        else:
            self.child.answer(request, "refused", f"a training run does not know {request.op}")

    def _evaluate_now(self, request: Request) -> None:
        if not self._held.rows:
            self.child.answer(request, "refused", "nothing is held out: data.eval is 0")
            return
        already = self.counters.evaluated_at == self.counters.step
        self._do(request, lambda: None if already else self._evaluate())

    def _write_now(self, request: Request) -> None:
        if self._held.prompts:
            self._do(request, self._write_samples)
        else:
            self.child.answer(request, "refused", "the spec has no samples.prompts")

    def _do(self, request: Request, work: Callable[[], None]) -> None:
        try:
            work()
        except Interrupted:
            self.child.answer(request, "superseded", "the run was asked to end")
        else:
            self.child.answer(request, "applied")

    def _set_rate(self, request: Request) -> None:
        rate = rate_of(request.value)
        if rate is None:
            self.child.answer(request, "refused", f"{request.value!r} is no learning rate")
            return
        before, self.counters.peak_rate = self.counters.peak_rate, rate
        self.child.answer(request, "applied", f"the schedule's peak was {before:g}")
        self._saving.forget()  # what was answered must outlive a kill, also where this step is saved already
        self._save(asked=True, wait=True)

    def _save_is_due(self) -> bool:
        step = self.counters.step
        last = step == self._total or self.counters.early_stopped
        return (last and step > 0) or self._best_unsaved or self._saving.is_due(step)

    def _save(
        self,
        why: str = "",
        *,
        asked: bool = False,
        again_s: float | None = None,
        quiet: bool = False,
        wait: bool = False,
    ) -> None:
        """Begin a checkpoint unless this step has one; a full disk is a warning, and the earlier ones stay.

        With `wait` it is known afterwards how it ended. Before the first step there is nothing worth keeping, unless
        someone asked for it.
        """
        counters = self.counters
        self._saving.settle(wait=True)
        if counters.step == self._saving.at_step or (counters.step == 0 and not asked):
            return
        self.child.emit("phase", phase="save", step=counters.step)
        counters.elapsed_s = self.elapsed_s
        self._best_unsaved = False
        self._ranks.tell("generators")
        others = self._ranks.gather(rng.snapshot())[1:]
        stepper = self._stepper
        taken = snapshot.take(self._trainee, stepper.optimizer, stepper.scaler, self._notes(counters), others)
        try:
            self._saving.begin(taken, counters.step, self.best, why, again_s, quiet)
            self._saving.settle(wait=wait)
        finally:
            self.child.emit("phase", phase="train", step=counters.step)

    def _lost(self, step: int) -> None:
        """There was no room for the checkpoint of this step."""
        best = self.counters.best
        # Where it was saved before, with another learning rate, that one is still there.
        if best and best.step == step and not (self.child.run.dir / best.path).is_dir():
            self.counters.best = self._best_before  # its weights are lost

    @property
    def best(self) -> dict[str, Any] | None:
        """The best evaluation as the events carry it."""
        found = self.counters.best
        if found is None:
            return None
        return {"metric": found.metric, "value": found.value, "step": found.step, "path": found.path}

    def _best_path(self) -> str:
        return self.counters.best.path if self.counters.best else ""

    @property
    def elapsed_s(self) -> float:
        """Seconds of training over all attempts, up to now."""
        return time.monotonic() - self._began
