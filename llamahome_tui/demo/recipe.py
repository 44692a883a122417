"""The training spec of `demo`: an ordinary one, with a fixed number of steps and a score before and after."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llamahome_tui.training.spec import Spec, make_spec

STEPS = 240
ROWS = 200

#: What a user would write to do the same by hand; everything else is the default.
DOCUMENT: Mapping[str, Any] = {
    "name": "demo",
    "tags": ["demo"],
    "model": {"id": "demo"},
    "data": {"train": ["demo"], "eval": "demo"},
    "lora": {"r": 8, "alpha": 16},
    "training": {"max_steps": STEPS, "global_batch": 16, "learning_rate": 5e-3, "log_every": 5},
    "evaluation": {"every_steps": STEPS, "generate_rows": ROWS},
    "samples": {"prompts": ["Say lantern in llama."], "every_steps": STEPS // 6, "max_new_tokens": 32},
}


def demo_spec(environ: Mapping[str, str]) -> Spec:
    """The spec, checked like every other."""
    return make_spec(DOCUMENT, source="demo", folder=Path("/"), environ=environ)
