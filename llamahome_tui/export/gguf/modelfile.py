"""An Ollama Modelfile beside a GGUF: the file, what ends an answer, the temperature.

There is no TEMPLATE: that is Go's language, not Jinja. `ollama create` looks for the file's chat template among
those that it has translated itself; where it knows none like it, the user has to write one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any


def modelfile(file: str, stops: Sequence[str], generation: Mapping[str, Any]) -> str:
    """The text; `file` is the GGUF's name in the same folder."""
    lines = [f"FROM ./{file}"]
    # A newline would end the parameter: such a token is left to the model's own end of generation.
    lines += [f"PARAMETER stop {json.dumps(stop, ensure_ascii=False)}" for stop in stops if stop.isprintable()]
    for key in ("temperature", "top_p", "top_k"):
        value = generation.get(key)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            lines.append(f"PARAMETER {key} {value}")
    return "\n".join(lines) + "\n"
