"""Types that llama.cpp's own `llama-quantize` makes of an f16 file; it is looked for before anything is written."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from llamahome_tui.errors import NotFoundError

TOOL: Final = "llama-quantize"
SMALLER: Final[Mapping[str, str]] = {"q4_k_m": "Q4_K_M"}  # our word -> the tool's


def written(kind: str) -> str:
    """The type that is written here: the file's own, or what the tool makes it of."""
    return "f16" if kind in SMALLER else kind


def tool(environ: Mapping[str, str]) -> str:
    """The path of llama-quantize. Raises NotFoundError (exit 4) with where it comes from."""
    found = shutil.which(TOOL, path=environ.get("PATH", ""))
    if found is None:
        raise NotFoundError(
            f"--type q4_k_m: {TOOL} is not on the PATH",
            code="export.no_llama_quantize",
            hint="it comes with llama.cpp: https://github.com/ggml-org/llama.cpp/releases or brew install llama.cpp; "
            "without it: llamahome --batch runs export RUN --format gguf --type q8_0",
        )
    return str(Path(found).absolute())
