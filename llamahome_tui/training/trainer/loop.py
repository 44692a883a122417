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
from llamahome_tui.training.trainer import checkpoint, evaluate, flops, memory, rng
from llamahome_tui.training.trainer.batches import Item, Items
from llamahome_tui.training.trainer.counters import Best, Counters
from llamahome_tui.training.trainer.evaluate import Interrupted, Writer
from llamahome_tui.training.trainer.mirroring import mirroring_of
from llamahome_tui.training.trainer.ranks import ALONE, Ranks
from llamahome_tui.training.trainer.report import Report
from llamahome_tui.training.trainer.schedule import factor
from llamahome_tui.training.trainer.step import Stepper, StepTooLarge, Taken

if TYPE_CHECKING:
    from llamahome_tui.training.spec import Spec

SAVE_AGAIN_S = 30.0  # after a save that found the disk full
STOP_AGAIN_S = 1.0  # the same while a stop waits for it
MIRROR_WAITS_S = 60.0  # at the end, for the last copy; at most a quarter of the grace
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
    ) -> None:
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
        self._mirror = mirroring_of(child, spec)
        if self._mirror and counters.step:
            self._mirror.offer(f"step-{counters.step}", Path(self._best_path()).name)
        self._saved_at_step = counters.step or -1
        self._saved_at = time.monotonic()
        self._save_due = False  # a save failed and is owed
        self._best_unsaved = False  # the best weights so far are those of this step
        self._save_again_at = -math.inf
        self._best_before: Best | None = None
        self._began = time.monotonic() - counters.elapsed_s
        answers.forget_after(child.run, counters.step)

    def run(self) -> str:
        """Train; gives the reason of the `end` event: completed, stopped or paused."""
        try:
            return self._run()
        finally:
            self._finish_mirror()

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
            self._save("before giving up")
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
        try:
            self._evaluate_if_due()
            self._write_samples_if_due()
        except Interrupted:
            pass
        if self._save_is_due():
            self._save()
        self._tell_of_mirror()
        for request in (*self._script.due(self.counters.step), *self.child.requests()):
            self._obey(request)
        if self._best_unsaved:  # an evaluation that was asked for may find the best too
            self._save()
        if self.child.stopping:
            self._save_for_stop()
            return "stopped"
        if self.child.pausing:
            self._save("before the pause")
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
        return self._saved_at_step == self.counters.step or self.counters.step == 0

    def _save_for_stop(self) -> None:
        """Save; a full disk is given a part of the grace to become less full, then what is lost is said."""
        counters, best = self.counters, self.counters.best
        until = time.monotonic() + min(STOP_WAITS_S, self.spec.recovery.grace_s / 4)
        self._save("before leaving", again_s=STOP_AGAIN_S)
        while not self._kept and time.monotonic() < until:
            time.sleep(STOP_AGAIN_S)
            counters.best = best
            self._save(again_s=STOP_AGAIN_S, quiet=True)
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
        counters = self.counters
        if counters.best is None or not counters.best.better_than(value, self._higher):
            path = f"checkpoints/step-{counters.step}"
            self._best_before = counters.best
            counters.best = Best(self.spec.evaluation.metric, value, counters.step, path)
            counters.evaluations_without_gain = 0
            self._best_unsaved = self._saved_at_step != counters.step
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
            self._save(asked=True)
            saved = self._saved_at_step == self.counters.step
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
        self._saved_at_step = -1  # what was answered must outlive a kill, also where this step is saved already
        self._save(asked=True)

    def _tell_of_mirror(self) -> None:
        for said in self._mirror.words() if self._mirror else ():
            self.child.emit("warning", step=self.counters.step, message=said)

    def _finish_mirror(self) -> None:
        """Let the last copy end, for a while that the grace of a stop has room for."""
        if self._mirror:
            self._mirror.finish(min(MIRROR_WAITS_S, self.spec.recovery.grace_s / 4))
            self._tell_of_mirror()

    def _save_is_due(self) -> bool:
        step, wanted = self.counters.step, self.spec.checkpoint
        if step == self._saved_at_step or step == 0:
            return False
        if step == self._total or self.counters.early_stopped or self._best_unsaved:
            return True
        if time.monotonic() < self._save_again_at:
            return False
        by_steps = wanted.every_steps > 0 and step % wanted.every_steps == 0
        by_time = wanted.every_minutes > 0 and time.monotonic() - self._saved_at >= 60 * wanted.every_minutes
        return self._save_due or by_steps or by_time

    def _save(self, why: str = "", *, asked: bool = False, again_s: float | None = None, quiet: bool = False) -> None:
        """Write a checkpoint unless this step has one; a full disk is a warning, and the earlier ones stay.

        Before the first step there is nothing worth keeping, unless someone asked for it.
        """
        counters, run = self.counters, self.child.run
        if counters.step == self._saved_at_step or (counters.step == 0 and not asked):
            return
        self.child.emit("phase", phase="save", step=counters.step)
        counters.elapsed_s = self.elapsed_s
        started = time.perf_counter()
        self._best_unsaved = False
        self._ranks.tell("generators")
        others = self._ranks.gather(rng.snapshot())[1:]
        try:
            written = checkpoint.write(
                run.checkpoints_dir,
                counters.step,
                self._trainee,
                self._stepper.optimizer,
                self._stepper.scaler,
                self._notes(counters),
                others,
            )
        except (OSError, RuntimeError) as error:
            if not checkpoint.is_disk_full(error):
                raise
            again = SAVE_AGAIN_S if again_s is None else again_s
            self._save_due, self._save_again_at = True, time.monotonic() + again
            if counters.best and counters.best.step == counters.step:
                counters.best = self._best_before  # its weights are lost
            if not quiet:  # of many tries in a row the first one says it
                self.child.emit(
                    "warning",
                    step=counters.step,
                    message=f"no room for a checkpoint{' ' + why if why else ''}; the earlier one stays, "
                    f"the save is tried again in {again:.0f} s",
                )
            return
        finally:
            self.child.emit("phase", phase="train", step=counters.step)
        self._saved_at_step, self._saved_at, self._save_due = counters.step, time.monotonic(), False
        self.child.emit(
            "checkpoint",
            sync=True,
            step=counters.step,
            path=f"checkpoints/{written.path.name}",
            bytes=written.bytes,
            seconds=round(time.perf_counter() - started, 3),
            best=self.best,
        )
        best = Path(self._best_path()).name
        if self._mirror:
            self._mirror.offer(written.path.name, best)
        in_use = self._mirror.in_work if self._mirror else ""
        checkpoint.rotate(run.checkpoints_dir, self.spec.checkpoint.keep, best, in_use)

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
