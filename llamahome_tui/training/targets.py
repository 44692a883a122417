"""The modules that a spec names, held against the names and shapes in a model's files: what is not there is refused.

Names are compared by their last two parts: what an architecture makes of its files is known to the trainer, which looks
again at a model without weights.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from llamahome_tui.errors import SpecError

if TYPE_CHECKING:
    from llamahome_tui.training.shape import Spec

ALL_LINEAR: Final = "all-linear"
# Of tied models the head has no tensor of its own; in a file experts may stand one by one, and in the model as one.
HEADS: Final = ("lm_head", "embed_out", "output")
_NOT_IN_FILES: Final = (*HEADS, "experts", "gate_up_proj", "down_proj", "gate")
_NEAREST: Final = 4  # names offered for one that is not there


def check(spec: Spec, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raises SpecError `model.unknown_target` for names that the files, by tensor, do not have or LoRA cannot adapt."""
    files = _Files(shapes)
    wanted = wanted_names(spec)
    unknown = {key: [name for name in names if not files.have(name)] for key, names in wanted.items()}
    odd = [name for name in wanted.get("lora.targets", ()) if files.have(name) and not files.have_matrix(name)]
    refuse_unknown(unknown, files.matrices, odd)


class _Files:
    """What the names of tensors tell about modules."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        split = [(name.split("."), shape) for name, shape in shapes.items()]
        self.parts = {part for parts, _ in split for part in parts if not part.isdigit()}
        self.own = {parts[-1] for parts, _ in split}
        self.matrices = {parts[-2] for parts, shape in split if len(shape) > 1 and len(parts) > 1}
        self.pairs = {tuple(parts[-3:-1]) for parts, _ in split} | {tuple(parts[-2:]) for parts, _ in split}
        self.mixture = any("expert" in name for name in shapes)  # whose names are others in the model

    def have(self, name: str) -> bool:
        *above, last = name.split(".")
        if last in _NOT_IN_FILES and (last not in self.matrices or self.mixture):
            return True
        if last not in self.parts:
            return False
        return self.mixture or not above or last not in self.matrices or (above[-1], last) in self.pairs

    def have_matrix(self, name: str) -> bool:
        last = name.rpartition(".")[2]
        return last in self.matrices or last in self.own or last in _NOT_IN_FILES


def wanted_names(spec: Spec) -> dict[str, list[str]]:
    """The names of modules that a spec gives, by key; "all-linear" is no name."""
    if not spec.lora.enabled:
        return {}
    targets = [spec.lora.targets] if isinstance(spec.lora.targets, str) else spec.lora.targets
    return {
        "lora.targets": [name for name in targets if name != ALL_LINEAR],
        "lora.train_also": list(spec.lora.train_also),
    }


def refuse_unknown(unknown: Mapping[str, Sequence[str]], known: Collection[str], odd: Sequence[str] = ()) -> None:
    """Raises SpecError `model.unknown_target` that lists what is unknown, with the nearest names that are known.

    `odd` are targets that are there and no matrices.
    """
    mistakes = [
        {"key": key, "reason": f"the model has no module named {name}", "nearest": ", ".join(nearest(name, known))}
        for key, names in unknown.items()
        for name in names
    ]
    mistakes += [
        {"key": "lora.targets", "reason": f"{name} is no matrix, and LoRA adapts matrices", "nearest": ""}
        for name in odd
    ]
    if not mistakes:
        return
    said = [f"{m['key']}: {m['reason']}" + (f" (nearest: {m['nearest']})" if m["nearest"] else "") for m in mistakes]
    of_targets = any(mistake["key"] == "lora.targets" for mistake in mistakes)
    setting = "lora.targets=all-linear" if of_targets else "lora.train_also=[]"
    raise SpecError(
        "\n".join(said),
        code="model.unknown_target",
        hint=f"take {f'{ALL_LINEAR}, or ' if of_targets else ''}some of {', '.join(sorted(known))}: "
        f"llamahome --batch train start SPEC --set {setting}",
        data={"errors": mistakes},
    )


def nearest(name: str, known: Collection[str]) -> list[str]:
    """The known names that are most like one that is not; compared by their last part too."""
    close = difflib.get_close_matches(name, known, n=_NEAREST, cutoff=0.5)
    return close or difflib.get_close_matches(name.rpartition(".")[2], known, n=_NEAREST, cutoff=0.5)
