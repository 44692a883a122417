"""Which tool a file is for: by the command in it, or by the keys that only one of them has."""

from __future__ import annotations

from typing import Final

from llamahome_tui.errors import ConfigError
from llamahome_tui.training.imports import axolotl, llama_factory, trl
from llamahome_tui.training.imports.reading import Given

DIALECTS: Final = ("axolotl", "llama-factory", "trl")
_MARKS: Final = {"axolotl": axolotl.MARKS, "llama-factory": llama_factory.MARKS, "trl": trl.MARKS}
_TABLES: Final = {"axolotl": axolotl.KEYS, "llama-factory": llama_factory.KEYS, "trl": trl.KEYS}
_SURE: Final = {"axolotl": ("base_model",), "llama-factory": ("stage", "finetuning_type"), "trl": ("dataset_name",)}
# Files that stand beside such configurations and are none.
_OTHER: Final = (
    ("compute_environment", "is a configuration of accelerate, of how devices are used and not of what is trained"),
    ("distributed_type", "is a configuration of accelerate, of how devices are used and not of what is trained"),
    ("zero_optimization", "is a configuration of DeepSpeed, of how devices are used and not of what is trained"),
    ("model_class", "is in the second form of LLaMA-Factory's configurations (v1), which is not read"),
    ("export_dir", "says how a model is exported, and trains none: runs export does that"),
    ("infer_backend", "says how a model answers, and trains none: generate does that"),
    ("kernel_config", "is in the second form of LLaMA-Factory's configurations (v1), which is not read"),
    ("sample_backend", "is in the second form of LLaMA-Factory's configurations (v1), which is not read"),
)


def detect(given: Given) -> str:
    """The dialect's name. Raises ConfigError `import.unknown` where no tool's keys stand out."""
    if given.command is not None:
        return given.command.tool
    for key, reason in _OTHER:
        if key in given.values and not ("stage" in given.values and "dataset" in given.values):
            raise _unknown(given, f"{given.place(key)}: {reason} ({key})")
    for name, keys in _SURE.items():
        if any(key in given.values for key in keys):
            return name
    scores = {name: sum(key in given.values for key in marks) for name, marks in _MARKS.items()}
    first, second = sorted(scores, key=lambda name: -scores[name])[:2]
    if scores[first] == scores[second]:
        known = {name: sum(key in given.values for key in table) for name, table in _TABLES.items()}
        first, second = sorted(known, key=lambda name: -known[name])[:2]
        if not known[first] or known[first] == known[second]:
            what = "has no key of theirs" if not known[first] else f"could be {first} and {second}"
            raise _unknown(given, f"{given.source}: {what}, so it can't be told whose configuration it is")
    return first


def _unknown(given: Given, message: str) -> ConfigError:
    return ConfigError(
        message,
        code="import.unknown",
        hint="say whose it is: llamahome --batch train init --from FILE --dialect axolotl|llama-factory|trl",
        data={"file": given.source, "dialects": list(DIALECTS)},
    )
