"""What TRL's trainers make of the cases: a script that writes losses and first gradients; TRL is loaded once."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

CHATS = {"prompt": ["ab", "cd"], "chosen": ["ef", "gh"], "rejected": ["ij", "kl"]}  # a trainer wants to see some


def main(folder: Path, out: Path) -> None:
    """Write {case: {accumulation: {loss, gradients, losses}}}."""
    import torch
    from transformers.utils import logging

    from tests.unit.training.trainer.objective_cases import CASES

    warnings.simplefilter("ignore")
    logging.set_verbosity_error()
    found: dict[str, dict[int, Any]] = {}
    for case in CASES:
        micro_loss, model = _trainer(case.kind, case.method, folder, out.parent)
        found[case.name] = {parts: _trained(model, micro_loss, parts) for parts in (1, 4)}
    torch.save(found, out)


def _trained(model: Any, micro_loss: Callable[..., Any], parts: int) -> dict[str, Any]:
    """Ten steps of so many micro-batches each, as transformers' Trainer accumulates them."""
    import torch

    from tests.unit.training.trainer.objective_cases import RATE, fill, steps

    fill(model)
    model.train()
    learning = {name: p for name, p in model.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW(learning.values(), lr=RATE, weight_decay=0.0)
    losses, gradients = [], {}
    for rows in steps():
        size = len(rows) // parts
        total = 0.0
        for at in range(0, len(rows), size):
            loss = micro_loss(rows[at : at + size], rows, parts)
            loss.backward()
            total += loss.item()
        gradients = gradients or {name: p.grad.clone() for name, p in learning.items()}
        losses.append(total)
        optimizer.step()
        optimizer.zero_grad()
    return {"gradients": gradients, "losses": losses}


def _trainer(kind: str, method: dict[str, Any], folder: Path, scratch: Path) -> tuple[Callable[..., Any], Any]:
    """The loss of a micro-batch by TRL's trainer, and the model it trains."""
    import trl
    from datasets import Dataset
    from transformers import AutoTokenizer
    from trl.experimental.cpo import CPOConfig, CPOTrainer
    from trl.experimental.orpo import ORPOConfig, ORPOTrainer

    from tests.unit.training.trainer.objective_cases import config, load

    common = {
        "output_dir": str(scratch), "report_to": [], "use_cpu": True, "bf16": False, "gradient_checkpointing": False,
        "per_device_train_batch_size": 2, "max_length": 64,
    }  # fmt: skip
    smoothing, beta = method.get("label_smoothing", 0.0), method.get("beta", 0.1)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    given = {"model": load(folder), "processing_class": tokenizer, "peft_config": config()}
    pairs = Dataset.from_dict(CHATS)
    if kind in ("sft", "pretrain"):
        rows = Dataset.from_dict({"prompt": CHATS["prompt"], "completion": CHATS["chosen"]})
        trainer = trl.SFTTrainer(
            args=trl.SFTConfig(**common, label_smoothing_factor=smoothing), train_dataset=rows, **given
        )
        return _likelihood(trainer, whole=kind == "pretrain"), trainer.model
    if kind == "kto":
        labels = {"prompt": CHATS["prompt"], "completion": CHATS["chosen"], "label": [True, False]}
        args = trl.KTOConfig(**common, beta=beta)
        trainer = trl.KTOTrainer(args=args, train_dataset=Dataset.from_dict(labels), **given)
        return _labelled(trainer), trainer.model
    if kind == "dpo":
        # Conservative labels, (1 - e) A + e B, which TRL's sigmoid loss leaves out, are a sum of two losses that it
        # has: A is "sigmoid", B the same with the answers exchanged, "robust" is ((1 - e) A - e B) / (1 - 2e).
        losses = {"loss_type": [method.get("loss", "sigmoid")]}
        if smoothing:
            losses = {"loss_type": ["sigmoid", "robust"], "loss_weights": [2 - 2 * smoothing, 2 * smoothing - 1]}
        args = trl.DPOConfig(**common, beta=beta, label_smoothing=smoothing, **losses)
        trainer = trl.DPOTrainer(args=args, train_dataset=pairs, **given)
        return _collated(trainer), trainer.model
    if kind == "orpo":
        trainer = ORPOTrainer(args=ORPOConfig(**common, beta=beta), train_dataset=pairs, **given)
    else:
        simpo = {"loss_type": "simpo", "cpo_alpha": 0.0, "simpo_gamma": method["gamma"]}
        args = CPOConfig(**common, beta=beta, label_smoothing=smoothing, **simpo)
        trainer = CPOTrainer(args=args, train_dataset=pairs, **given)
    return _concatenated(trainer), trainer.model


def _likelihood(trainer: Any, *, whole: bool) -> Callable[..., Any]:
    def loss(rows: Any, step: Any, parts: int) -> Any:
        texts = [row.prompt + row.chosen for row in rows]
        labels = texts if whole else [[-100] * len(row.prompt) + row.chosen for row in rows]
        given = {"input_ids": _padded(texts, 0), "labels": _padded(labels, -100), "attention_mask": _seen(texts)}
        counted = sum(len(row.chosen) + (len(row.prompt) - 1 if whole else 0) for row in step)
        return trainer.compute_loss(trainer.model, given, num_items_in_batch=counted)

    return loss


def _collated(trainer: Any) -> Callable[..., Any]:
    def loss(rows: Any, step: Any, parts: int) -> Any:
        given = trainer.data_collator(
            [{"prompt_ids": row.prompt, "chosen_ids": row.chosen, "rejected_ids": row.rejected} for row in rows]
        )
        return trainer.compute_loss(trainer.model, given) / parts

    return loss


def _labelled(trainer: Any) -> Callable[..., Any]:
    """Each prompt meets the answer before it in its step, which is the estimate over a micro-batch of all its rows."""

    def loss(rows: Any, step: Any, parts: int) -> Any:
        before = dict(zip(map(id, step), [step[-1], *step], strict=False))
        given = trainer.data_collator(
            [
                {
                    "prompt_ids": row.prompt,
                    "completion_ids": row.chosen,
                    "KL_completion_ids": before[id(row)].chosen,
                    "label": row.good,
                }
                for row in rows
            ]
        )
        return trainer.compute_loss(trainer.model, given) / parts

    return loss


def _concatenated(trainer: Any) -> Callable[..., Any]:
    def loss(rows: Any, step: Any, parts: int) -> Any:
        given = {}
        for side in ("chosen", "rejected"):
            texts = [row.prompt + getattr(row, side) for row in rows]
            labels = [[-100] * len(row.prompt) + getattr(row, side) for row in rows]
            given |= {
                f"{side}_input_ids": _padded(texts, 0),
                f"{side}_attention_mask": _seen(texts),
                f"{side}_labels": _padded(labels, -100),
            }
        return trainer.compute_loss(trainer.model, given) / parts

    return loss


def _padded(rows: list[list[int]], filler: int) -> Any:
    import torch

    width = max(map(len, rows))
    return torch.tensor([row + [filler] * (width - len(row)) for row in rows])


def _seen(rows: list[list[int]]) -> Any:
    return _padded([[1] * len(row) for row in rows], 0)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[4]))
    main(Path(sys.argv[1]), Path(sys.argv[2]))
