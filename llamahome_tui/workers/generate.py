"""The child that writes text: loads a model (and an adapter), answers the chats of one request, and ends.

`python -m llamahome_tui.workers.generate`: a request line on stdin, JSON lines on stdout (`loaded`, `text`, `reply`,
`end`, `error`). Files of this machine only, never a repository's code. It ends when its stdin closes.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, TextIO

from llamahome_tui.errors import ConfigError, LlamaHomeError, ModelError, ResourceError
from llamahome_tui.workers.encode import Encoder
from llamahome_tui.workers.request import GenerateRequest

BATCH_TOKENS = {"cuda": 32_768, "cpu": 4_096}  # prompt and reply tokens of the chats that are answered together
BATCH_ROWS = 64
_SMALL_MODEL = 2_000_000_000  # parameters up to which float32 fits the memory that bfloat16 would be slow in on a CPU


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer; `finish` is `end` (the model ended its turn) or `length` (max_tokens came first)."""

    text: str
    tokens: int
    finish: str


class Author:
    """A loaded model that answers tokenised prompts. Raises ModelError or ResourceError where it does not load."""

    def __init__(self, request: GenerateRequest, encoder: Encoder) -> None:
        self._request = request
        self._encoder = encoder
        ends = encoder.turn_ends()
        self.model, self.device = _load(request)
        for config in (self.model.generation_config, self.model.config):
            named = getattr(config, "eos_token_id", None)
            ends |= set(named) if isinstance(named, list) else set() if named is None else {int(named)}
        self._ends = ends

    @property
    def max_tokens(self) -> int:
        """The most tokens of a reply."""
        return self._request.max_tokens

    def write(self, prompts: Sequence[Sequence[int]], say: Callable[[str], None] | None = None) -> list[Reply]:
        """Answer tokenised prompts together; `say` gets the pieces of the reply, for one prompt only."""
        import torch
        from transformers import GenerationConfig

        request, width = self._request, max(len(prompt) for prompt in prompts)
        context = self._encoder.context
        room = request.max_tokens if context is None else min(request.max_tokens, context - width)
        padding = min(self._ends, default=0)
        ids = torch.full((len(prompts), width), padding, dtype=torch.int64)
        seen = torch.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            ids[row, width - len(prompt) :] = torch.tensor(list(prompt))
            seen[row, width - len(prompt) :] = 1
        sampling = (
            {"temperature": request.temperature, "top_p": request.top_p, "top_k": 0} if request.temperature else {}
        )
        torch.manual_seed(request.seed)
        with torch.inference_mode():
            written = self.model.generate(
                input_ids=ids.to(self.device),
                attention_mask=seen.to(self.device),
                generation_config=GenerationConfig(
                    do_sample=request.temperature > 0,
                    max_new_tokens=room,
                    repetition_penalty=1.0,
                    pad_token_id=padding,
                    eos_token_id=sorted(self._ends) or None,
                    use_cache=True,
                    **sampling,
                ),
                streamer=None if say is None else _Pieces(self._encoder.decode, self._ends, say),
            )
        return [self._reply(row) for row in written[:, width:].tolist()]

    def _reply(self, ids: list[int]) -> Reply:
        end = next((i for i, token in enumerate(ids) if token in self._ends), None)
        kept = ids if end is None else ids[:end]
        return Reply(self._encoder.decode(kept), len(kept), "length" if end is None else "end")


class _Pieces:
    """Turns tokens, as they come, into pieces of text; a letter of several tokens waits for its last one."""

    def __init__(self, decode: Callable[[Sequence[int]], str], ends: set[int], say: Callable[[str], None]) -> None:
        self._decode = decode
        self._ends = ends
        self._say = say
        self._ids: list[int] = []
        self._said = ""
        self._prompt = True

    def put(self, value: Any) -> None:
        """Called by `generate` with the prompt first, then with each token."""
        if self._prompt:
            self._prompt = False
            return
        self._ids += [token for token in value.reshape(-1).tolist() if token not in self._ends]
        text = self._decode(self._ids)
        if not text.endswith("\ufffd"):
            self._send(text)

    def end(self) -> None:
        """Called by `generate` after the last token."""
        self._send(self._decode(self._ids))

    def _send(self, text: str) -> None:
        piece = text[len(self._said) :] if text.startswith(self._said) else ""
        if piece:
            self._said = text
            self._say(piece)


def answer(request: GenerateRequest, emit: Callable[..., None]) -> None:
    """Load, write, and emit what came of it; replies carry the index of their chat."""
    encoder = Encoder(request)
    prompts = encoder.encode(request.chats)
    author = Author(request, encoder)
    emit("loaded", device=author.device.type)
    began, tokens = time.monotonic(), 0
    for rows in together([len(prompt) for prompt in prompts], request.max_tokens, BATCH_TOKENS[author.device.type]):
        say = (lambda piece: emit("text", text=piece)) if request.stream and len(prompts) == 1 else None
        for index, reply in zip(rows, write_all(author, [prompts[i] for i in rows], say), strict=True):
            tokens += reply.tokens
            emit("reply", index=index, text=reply.text, tokens=reply.tokens, finish=reply.finish)
    emit("end", tokens=tokens, seconds=time.monotonic() - began)


def write_all(author: Author, prompts: list[list[int]], say: Callable[[str], None] | None) -> list[Reply]:
    """Answer them together, or in halves where the memory does not hold all."""
    import torch

    try:
        return author.write(prompts, say)
    except torch.OutOfMemoryError:
        if len(prompts) == 1:
            raise ResourceError(
                "the GPU has not enough memory for this reply",
                code="resource.gpu_memory",
                hint="take fewer --max-tokens, or free the GPU: llamahome --batch system show",
            ) from None
    torch.cuda.empty_cache()
    middle = len(prompts) // 2
    return write_all(author, prompts[:middle], None) + write_all(author, prompts[middle:], None)


def together(lengths: Sequence[int], reply: int, budget: int) -> Iterator[list[int]]:
    """Indexes of chats to answer together: of like length, longest first, within the budget of tokens."""
    rows: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if rows and (len(rows) >= BATCH_ROWS or (lengths[rows[0]] + reply) * (len(rows) + 1) > budget):
            yield rows
            rows = []
        rows.append(index)
    if rows:
        yield rows


def _load(request: GenerateRequest) -> tuple[Any, Any]:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    device = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    try:
        config = AutoConfig.from_pretrained(request.path, local_files_only=True, trust_remote_code=False)
        with torch.device("meta"):
            empty = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
        small = sum(parameter.numel() for parameter in empty.parameters()) <= _SMALL_MODEL
        model = AutoModelForCausalLM.from_pretrained(
            request.path,
            dtype=torch.float32 if device.type == "cpu" and small else torch.bfloat16,
            device_map={"": device} if device.type == "cuda" else None,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
        )
    except torch.OutOfMemoryError:
        raise ResourceError(
            f"the GPU has not enough free memory for {request.path}",
            code="resource.gpu_memory",
            hint="see who uses it: llamahome --batch system show",
        ) from None
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        raise ModelError(
            f"{request.path} does not load: {error}",
            code="model.not_loadable",
            hint=f"see what is wrong with it: llamahome --batch models show {request.path}",
        ) from None
    return (_with_adapter(model, request.adapter) if request.adapter else model).eval(), device


def _with_adapter(model: Any, folder: str) -> Any:
    from peft import PeftModel

    try:
        return PeftModel.from_pretrained(model, folder, is_trainable=False, local_files_only=True)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(
            f"{folder} is no adapter for this model: {error}",
            code="model.adapter",
            hint="name the run alone, it knows its base: llamahome --batch generate RUN --prompt TEXT",
        ) from None


def _missing(error: ImportError) -> ConfigError:
    return ConfigError(
        f"writing text needs {error.name or 'torch'}, and {sys.executable} has none",
        code="train.missing",
        hint="pip install 'llamahome-tui[train]', or name an interpreter that has it: "
        "llamahome --batch config set launch.python /path/to/python",
        data={"missing": error.name},
    )


def _emitter(out: TextIO) -> Callable[..., None]:
    def emit(kind: str, **fields: Any) -> None:
        out.write(json.dumps(fields | {"type": kind}) + "\n")
        out.flush()

    return emit


def _end_with_parent() -> None:
    """Block until stdin closes, then end at once: whoever asked is gone or wants no more."""
    while os.read(0, 4096):
        pass
    os._exit(143)


def main(read: Callable[[str], Any] = GenerateRequest.from_line, work: Callable[..., None] = answer) -> int:
    """Answer one request: what `read` makes of the line goes to `work`. Exit 0 after `end`, 1 after `error`."""
    # Threads that spin while they wait make a busy machine many times slower; read when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Libraries print to stdout; only our lines may go where the parent reads.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as out:
        os.dup2(2, 1)
        emit = _emitter(out)
        request = read(sys.stdin.buffer.readline().decode("utf-8"))
        threading.Thread(target=_end_with_parent, daemon=True).start()
        try:
            work(request, emit)
        except LlamaHomeError as error:
            emit(**error.as_record() | {"kind": "error"})
            return 1
        except ImportError as error:
            emit(**_missing(error).as_record() | {"kind": "error"})
            return 1
        except BrokenPipeError:
            return 1
    return 0


def run(read: Callable[[str], Any] = GenerateRequest.from_line, work: Callable[..., None] = answer) -> NoReturn:
    """`main` as the whole of a process, which ends with it."""
    code = main(read, work)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # the thread on stdin would hold a normal exit up


if __name__ == "__main__":
    run()
