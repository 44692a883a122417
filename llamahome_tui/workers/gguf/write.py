"""Writes a model as one GGUF file, a slice of a tensor at a time, and holds what stands there against the model."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy
import torch

from llamahome_tui.errors import IntegrityError, ModelError
from llamahome_tui.export.gguf.families import refuse
from llamahome_tui.export.tensors import Tensors
from llamahome_tui.workers.gguf import metadata
from llamahome_tui.workers.gguf.layout import Place, Type, layout, values

ALIGNMENT = gguf.GGUF_DEFAULT_ALIGNMENT
SLICE = 1 << 18  # numbers that are rounded at once: what rounding needs beside the tensor itself
Progress = Callable[[], None]


class Plan:
    """What would be written: made before the first byte, refused there if it can't be."""

    def __init__(self, tensors: Tensors, kind: str, words_from: Path | None = None) -> None:
        """Tokenizer files lie in `words_from`, by itself beside the model.

        Raises ModelError (exit 3) for a family, a config, a tokenizer or a tensor that llama.cpp does not have.
        """
        self.tensors, self.kind = tensors, kind
        self.folder = words_from or tensors.folder
        self.family = refuse(tensors.config, kind)
        self.places = layout(tensors, self.family, kind)
        rows = next((place.shape[0] for place in self.places if place.name == "token_embd.weight"), 0)
        self.words = metadata.read_vocabulary(self.folder, rows)

    @property
    def bytes(self) -> int:
        """About how large the file becomes: its tensors exactly, its header from above."""
        header = sum(len(token.encode()) + 24 for token in self.words.tokens)
        header += sum(len(merge.encode()) + 8 for merge in self.words.merges)
        return sum(place.bytes + ALIGNMENT + 128 for place in self.places) + header + (1 << 20)


def write(plan: Plan, path: Path, name: str, template: str | None = None, progress: Progress = lambda: None) -> None:
    """Write and read back `path`; `progress` is called after every tensor and may raise to leave.

    Raises OSError for a disk that is full, ModelError for a number that the type can't hold, IntegrityError where
    what stands in the file is not what was meant.
    """
    writer = gguf.GGUFWriter(None, plan.family.arch)
    config = {**plan.tensors.config, "vocab_size": len(plan.words.tokens)}
    metadata.describe(writer, config, plan.family, plan.kind, name)
    metadata.tokenizer(writer, plan.words, plan.folder, config, template)
    for place in plan.places:
        writer.add_tensor_info(place.name, place.shape, numpy.dtype(numpy.float32), place.bytes, place.type)
    writer.write_header_to_file(path)
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    if not writer.fout:
        raise OSError(f"{path} was not opened")
    file = writer.fout[0]
    file.write(b"\0" * (-file.tell() % ALIGNMENT))
    try:
        for place in plan.places:
            for part in _slices(values(place, plan.tensors)):
                file.write(_rounded(part, place).data)
            part = None  # it holds the whole tensor, and the next one is read
            file.write(b"\0" * (-file.tell() % ALIGNMENT))
            progress()
        file.flush()
        os.fsync(file.fileno())
    finally:
        file.close()
    check(plan, path, template, progress)


def check(plan: Plan, path: Path, template: str | None = None, progress: Progress = lambda: None) -> None:
    """Hold a file against what was meant: every number within its type's rounding, tokens and template exactly."""
    held = _header(plan, path, template)
    if set(held) != {place.name for place in plan.places}:
        raise _differs(path, "its tensors")
    with path.open("rb") as file:  # read, not mapped, so that what was read does not stay in memory
        for place in plan.places:
            shape, kind, offset = held[place.name]
            if shape != tuple(place.shape) or kind != place.type:
                raise _differs(path, place.name)
            file.seek(offset)
            width = place.bytes // place.shape[0]
            for part in _slices(values(place, plan.tensors)):
                raw = numpy.frombuffer(file.read(part.shape[0] * width), numpy.uint8).reshape(part.shape[0], width)
                found = torch.from_numpy(gguf.quants.dequantize(raw, place.type).copy())
                if not _agrees(part.float(), found.reshape(part.shape), place.type):
                    raise _differs(path, place.name)
            part = None
            progress()


def _header(plan: Plan, path: Path, template: str | None) -> dict[str, tuple[tuple[int, ...], Type, int]]:
    """Hold tokens and template against what was meant; gives each tensor's shape, type and place in the file.

    A reader keeps an object for every word of the vocabulary: it is gone before the first tensor is read.
    """
    reader = gguf.GGUFReader(path)
    if _field(reader, "tokenizer.ggml.tokens") != list(plan.words.tokens):
        raise _differs(path, "its tokens")
    if template is not None and template and _field(reader, "tokenizer.chat_template") != template:
        raise _differs(path, "its chat template")
    return {
        one.name: (tuple(reversed(one.shape.tolist())), one.tensor_type, int(one.data_offset)) for one in reader.tensors
    }


def _agrees(meant: torch.Tensor, found: torch.Tensor, kind: Type) -> bool:
    if kind == Type.F16:
        return bool(torch.equal(meant.half().float(), found))
    if kind == Type.BF16:
        return bool(torch.equal(meant.bfloat16().float(), found))
    if kind == Type.F32:
        return bool(torch.equal(meant, found))
    blocks, got = meant.reshape(-1, 32), found.reshape(-1, 32)
    step = blocks.abs().amax(dim=1, keepdim=True) / 127
    # Half a step, and the rounding of the step itself to float16 (relative 2^-11, at least 2^-25) times 127.
    allowed = step * (0.5 + 127 * 2**-11) + 127 * 2**-25 + 1e-30
    return bool(((blocks - got).abs() <= allowed).all())


def _rounded(part: torch.Tensor, place: Place) -> Any:
    """A slice in its type's bytes."""
    if place.type == Type.F32:
        return part.float().contiguous().numpy()
    if place.type == Type.BF16:
        return part.to(torch.bfloat16).contiguous().view(torch.int16).numpy()
    if not torch.isfinite(part).all() or part.abs().max() > torch.finfo(torch.float16).max * (
        1 if place.type == Type.F16 else 127
    ):
        raise ModelError(
            f"{place.source}: holds numbers that {place.type.name} can't",
            code="export.gguf_range",
            hint="bf16 can: llamahome --batch runs export RUN --format gguf --type bf16",
        )
    if place.type == Type.F16:
        return part.to(torch.float16).contiguous().numpy()
    return numpy.ascontiguousarray(gguf.quants.quantize(part.float().contiguous().numpy(), place.type))


def _slices(value: torch.Tensor) -> Iterator[torch.Tensor]:
    """Whole rows, few enough that what is made of them stays small."""
    rows = max(1, SLICE // max(1, value[0].numel()))
    for at in range(0, value.shape[0], rows):
        yield value[at : at + rows]


def _field(reader: gguf.GGUFReader, key: str) -> Any:
    field = reader.get_field(key)
    return None if field is None else field.contents()


def _differs(path: Path, what: str) -> IntegrityError:
    return IntegrityError(
        f"{path}: {what}: read back, it is not what was written",
        code="export.gguf_read_back",
        hint="look at the disk: llamahome --batch system doctor",
    )
