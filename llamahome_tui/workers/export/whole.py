"""An export as one GGUF file with its Modelfile: planned and refused before anything is written."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from llamahome_tui.errors import ModelError
from llamahome_tui.export.folder import Partial
from llamahome_tui.export.gguf import smaller
from llamahome_tui.export.gguf.modelfile import modelfile
from llamahome_tui.export.order import MERGED, Order
from llamahome_tui.export.tensors import Tensors
from llamahome_tui.models.folder import read_json

if TYPE_CHECKING:
    from llamahome_tui.workers.gguf.write import Plan


@dataclass(frozen=True, slots=True)
class Whole:
    """The file to make. `like` is a folder with a model of the same shape."""

    plan: Plan
    name: str
    like: Path
    kind: str
    tool: str = ""  # what makes the file of what is written here

    @classmethod
    def of(cls, order: Order, tensors: Tensors) -> Whole:
        """Raises ModelError for what can't be a GGUF file, or where the `gguf` package is missing.

        Raises NotFoundError where llama-quantize is needed and not there.
        """
        try:
            from llamahome_tui.workers.gguf.write import Plan
        except ModuleNotFoundError as error:
            raise ModelError(
                f"a GGUF file needs the package {error.name}", code="export.no_gguf", hint="pip install gguf"
            ) from error
        base = Path(order.base)
        return cls(
            Plan(tensors, smaller.written(order.gguf), base),
            Path(order.place).name,
            base if order.form == MERGED else Path(order.weights),
            order.gguf,
            smaller.tool(os.environ) if order.gguf in smaller.SMALLER else "",
        )

    @property
    def bytes(self) -> int:
        """About what it takes while it is made: the smaller file beside the one that it is made of, from above."""
        return self.plan.bytes * (2 if self.tool else 1)

    @property
    def steps(self) -> int:
        """How often `fill` calls: once a tensor as it is written, once as it is read back."""
        return 2 * len(self.plan.places)

    @property
    def file(self) -> str:
        """Its name."""
        return f"{self.name}.gguf"

    def fill(
        self, partial: Partial, template: Path | None, progress: Callable[[], None], wait: Callable[[], None]
    ) -> None:
        """Write it and what Ollama needs beside it; what an earlier attempt has finished is kept.

        `progress` is called after every tensor, `wait` while another program works; both may raise to leave.
        """
        from llamahome_tui.workers.gguf.metadata import end_ids
        from llamahome_tui.workers.gguf.write import write

        text = template.read_text(encoding="utf-8") if template else None

        def make(path: Path) -> None:
            if not self.tool:
                write(self.plan, path, self.name, text, progress)
                return
            from llamahome_tui.workers.gguf.smaller import quantise

            first = path.with_name(f".f16-{self.file}")
            try:
                write(self.plan, first, self.name, text, progress)
                quantise(self.tool, first, path, self.kind, wait)
            finally:
                first.unlink(missing_ok=True)

        partial.add(self.file, make)
        folder, tokens = self.plan.folder, self.plan.words.tokens
        stops = [tokens[at] for at in end_ids(folder, self.plan.tensors.config) if 0 <= at < len(tokens)]
        settings = folder / "generation_config.json"
        said = modelfile(self.file, stops, read_json(settings) if settings.is_file() else {})
        partial.add("Modelfile", lambda path: _write(path, said))

    def weights(self, made: Path) -> dict[str, torch.Tensor]:
        """What the file in the folder `made` means, by the model's own names."""
        from llamahome_tui.workers.gguf.read import weights

        return weights(self.plan, made / self.file)


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
