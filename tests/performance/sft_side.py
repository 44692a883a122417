"""One trainer of the comparison with TRL, in a process of its own: `sft_side.py SIDE FOLDER`, taking turns with others.

It runs a whole training, but waits before the first step of each turn for a line on stdin with the number of steps to
take, and answers with one line of JSON: {"seconds", "cpu", "trained", "steps"}. "ours" trains by FOLDER/ours.json, any
other side by the settings of SFTConfig in FOLDER/SIDE.json. The first line it writes says which rows it trains on.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

LORA = {"r": 16, "lora_alpha": 32, "lora_dropout": 0.0, "target_modules": "all-linear"}
ENOUGH = 100_000  # steps: the last turn ends the training


class Turns:
    """Waits for a turn, and measures it from the first step's beginning to the last one's end."""

    def __init__(self, answer: Any) -> None:
        self._answer = answer
        self._left = self._steps = self._trained = 0

    def before_step(self) -> None:
        if self._left == 0:
            said = sys.stdin.readline()
            if not said:
                os._exit(0)  # nobody wants another turn
            self._left = self._steps = int(said)
            self._trained = 0
            self._wall, self._cpu = time.perf_counter(), time.process_time()

    def trained(self, tokens: int) -> None:
        self._trained += tokens

    def after_step(self) -> None:
        self._left -= 1
        if self._left == 0:
            spent = {"seconds": time.perf_counter() - self._wall, "cpu": time.process_time() - self._cpu}
            self.say(spent | {"trained": self._trained, "steps": self._steps})

    def say(self, what: dict[str, Any]) -> None:
        self._answer.write(json.dumps(what) + "\n")
        self._answer.flush()


def digest(rows: Any) -> dict[str, Any]:
    """What rows are trained on, whatever their order: ids and labels of each."""
    found = sorted(hashlib.sha256(json.dumps([list(ids), list(labels)]).encode()).hexdigest() for ids, labels in rows)
    return {"rows": len(found), "digest": hashlib.sha256("".join(found).encode()).hexdigest()}


def ours(folder: Path, turns: Turns) -> None:
    os.environ["LLAMAHOME_HOME"] = str(folder / "home")
    from llamahome_tui.config.places import Places
    from llamahome_tui.jobs.store import RunStore
    from llamahome_tui.training.spec import Spec
    from llamahome_tui.training.trainer import loop
    from llamahome_tui.training.trainer.main import main
    from llamahome_tui.training.trainer.step import Stepper, Taken

    places = Places.from_environ(os.environ)
    places.ensure()
    values = json.loads((folder / "ours.json").read_text())
    spec = Spec.from_dict(values).to_dict()
    run = RunStore(places).create({"name": "ours", "kind": "train", "spec": spec})
    step, after, begin, take = loop.Loop._step, loop.Loop._between, loop.Loop._run, Stepper.take

    def taking(self: Stepper, *words: Any) -> Taken:
        taken = take(self, *words)
        turns.trained(taken.trained)
        return taken

    def stepping(self: loop.Loop) -> None:
        turns.before_step()
        step(self)

    def between(self: loop.Loop) -> str:
        # What stands between two steps (requests, checkpoints, what is due) belongs to the step before.
        reason = after(self)
        if self.counters.step:
            turns.after_step()
        return reason

    def beginning(self: loop.Loop) -> str:
        rows = (self._stepper._items[i].sequences[0] for i in range(len(self._stepper._items)))
        turns.say(digest((row.ids, [i if m else -100 for i, m in zip(row.ids, row.mask, strict=True)]) for row in rows))
        return begin(self)

    Stepper.take, loop.Loop._step, loop.Loop._between, loop.Loop._run = taking, stepping, between, beginning
    sys.exit(main(run.dir))


def trl(settings: dict[str, Any], folder: Path, turns: Turns) -> None:
    import datasets
    from peft import LoraConfig
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    datasets.disable_progress_bars()

    class Turn(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            turns.before_step()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            turns.after_step()

    class Counting(SFTTrainer):
        def compute_loss(self, model: Any, inputs: Any, *words: Any, **named: Any) -> Any:
            turns.trained(int((inputs["labels"][:, 1:] != -100).sum()))
            return super().compute_loss(model, inputs, *words, **named)

    lines = (folder / "rows.jsonl").read_text().splitlines()
    given = datasets.Dataset.from_list([json.loads(line) for line in lines])
    options = SFTConfig(
        output_dir=str(folder / "trl"),
        max_steps=ENOUGH,
        report_to=[],
        disable_tqdm=True,
        save_strategy="no",
        **settings,
    )
    trainer = Counting(
        model=str(folder / "model"),
        args=options,
        train_dataset=given,
        peft_config=LoraConfig(task_type="CAUSAL_LM", **LORA),
        callbacks=[Turn()],
    )
    if not options.packing:
        turns.say(digest((row["input_ids"], row["labels"]) for row in trainer.train_dataset))
    else:
        turns.say({"rows": 0, "digest": ""})
    trainer.train()


def main() -> None:
    side, folder = sys.argv[1], Path(sys.argv[2])
    # Whatever a trainer prints goes to stderr: stdout is for the answers alone.
    turns = Turns(os.fdopen(os.dup(1), "w"))
    os.dup2(2, 1)
    if side == "ours":
        ours(folder, turns)
    else:
        trl(json.loads((folder / f"{side}.json").read_text()), folder, turns)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    for name, value in (("HF_HUB_OFFLINE", "1"), ("TOKENIZERS_PARALLELISM", "false"), ("OMP_WAIT_POLICY", "PASSIVE")):
        os.environ.setdefault(name, value)
    main()
