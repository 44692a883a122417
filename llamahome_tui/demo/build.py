"""Make the embedded model and its chats anew, deterministically: `python -m llamahome_tui.demo.build` (minutes).

The only module outside the child processes that imports torch; nothing of LlamaHome imports it.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that spin slow a busy machine; read by torch's import

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.utils import logging

from llamahome_tui.demo.chats import write_data
from llamahome_tui.demo.tasks import Message, lesson

SEED = 20
PAD, BOS, END, SYSTEM, USER, ASSISTANT = "<|pad|>", "<|begin|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"
SPECIAL = (PAD, BOS, END, SYSTEM, USER, ASSISTANT)
CONTEXT = 512
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}<|assistant|>"
    "{% generation %}{{ message['content'] }}<|end|>{% endgeneration %}"
    "{% else %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def build_tokenizer() -> Tokenizer:
    """Bytes and six marks: every text there is has tokens, one for each letter of English."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate((*SPECIAL, *alphabet))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    return tokenizer


def build_model(vocabulary: int) -> LlamaForCausalLM:
    """A Llama of 1.28 million parameters with fresh weights."""
    torch.manual_seed(SEED)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=160,
        intermediate_size=432,
        num_hidden_layers=4,
        num_attention_heads=5,
        num_key_value_heads=5,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=SPECIAL.index(BOS),
        eos_token_id=SPECIAL.index(END),
        pad_token_id=SPECIAL.index(PAD),
        dtype="float32",
    )
    return LlamaForCausalLM(config)


def encode(tokenizer: Tokenizer, chat: list[Message]) -> tuple[list[int], list[int]]:
    """Token ids of a chat and, for each, whether the loss counts it: the assistant's words and their end."""
    ids, mask = [SPECIAL.index(BOS)], [0]
    for message in chat:
        spoken = [*tokenizer.encode(message["content"]).ids, SPECIAL.index(END)]
        own = int(message["role"] == "assistant")
        ids += [SPECIAL.index(f"<|{message['role']}|>"), *spoken]
        mask += [0, *([own] * len(spoken))]
    return ids, mask


def batches(tokenizer: Tokenizer, rng: random.Random, tokens: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Endless (inputs, labels) of about `tokens` tokens, chats of like length; labels are -100 where no loss counts."""
    while True:
        pool = sorted((encode(tokenizer, lesson(rng)) for _ in range(1024)), key=lambda chat: len(chat[0]))
        groups: list[list[tuple[list[int], list[int]]]] = [[]]
        for chat in pool:
            if len(chat[0]) * (len(groups[-1]) + 1) > tokens:
                groups.append([])
            groups[-1].append(chat)
        rng.shuffle(groups)
        for group in groups:
            width = max(len(ids) for ids, _ in group)
            inputs = torch.zeros(len(group), width, dtype=torch.long)
            labels = torch.full((len(group), width), -100)
            for row, (ids, mask) in enumerate(group):
                line = torch.tensor(ids)
                inputs[row, : len(ids)] = line
                labels[row, : len(ids)] = torch.where(torch.tensor(mask).bool(), line, -100)
            yield inputs, labels


def pretrain(model: LlamaForCausalLM, tokenizer: Tokenizer, steps: int, tokens: int, peak: float) -> None:
    """Train in place: AdamW, short warm-up, cosine to nothing, loss on the replies only."""
    rng = random.Random(SEED)
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.05}, {"params": vectors, "weight_decay": 0.0}],
        lr=peak, betas=(0.9, 0.98), fused=True,
    )  # fmt: skip
    warmup, began = 40, time.monotonic()
    model.train()
    source = batches(tokenizer, rng, tokens)
    for step in range(1, steps + 1):
        rate = peak * min(step / warmup, 0.5 + 0.5 * math.cos(math.pi * step / steps))
        for group in optimizer.param_groups:
            group["lr"] = rate
        inputs, labels = next(source)
        # Only positions that count go through the output layer: replies are a quarter of the text.
        hidden = model.model(input_ids=inputs, use_cache=False).last_hidden_state[:, :-1]
        counted = labels[:, 1:] != -100
        loss = torch.nn.functional.cross_entropy(model.lm_head(hidden[counted]), labels[:, 1:][counted])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if step % 25 == 0 or step == 1:
            print(f"step {step}/{steps}  loss {loss.item():.4f}  {time.monotonic() - began:.0f} s", flush=True)


def write_model(model: LlamaForCausalLM, tokenizer: Tokenizer, folder: Path) -> None:
    """The folder as `save_pretrained` would leave it, with the chat template beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)  # saved for this user only, packed for everyone
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BOS,
        "eos_token": END,
        "pad_token": PAD,
        "model_max_length": CONTEXT,
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def exact_share(model: LlamaForCausalLM, tokenizer: Tokenizer, chats: list[list[Message]]) -> float:
    """Share of chats (0-1) whose last reply the model writes letter for letter, greedily."""
    model.eval()
    right = 0
    by_length: dict[int, list[tuple[list[int], list[int]]]] = {}
    for chat in chats:
        prompt = [*encode(tokenizer, chat[:-1])[0], SPECIAL.index(ASSISTANT)]
        reply = [*tokenizer.encode(chat[-1]["content"]).ids, SPECIAL.index(END)]
        by_length.setdefault(len(prompt), []).append((prompt, reply))
    for pairs in by_length.values():
        ids = torch.tensor([prompt for prompt, _ in pairs])
        room = max(len(reply) for _, reply in pairs)
        with torch.inference_mode():
            written = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=room)
        for row, (prompt, reply) in zip(written.tolist(), pairs, strict=True):
            right += row[len(prompt) : len(prompt) + len(reply)] == reply
    return right / len(chats)


def main() -> None:
    """Build into --output; print what the base model can do, and that it does not speak llama."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--tokens", type=int, default=3072, help="tokens of a step")
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    logging.disable_progress_bar()
    torch.set_num_threads(options.threads)
    torch.use_deterministic_algorithms(True)
    torch.set_flush_denormal(True)  # late moments of rare tokens are denormal, and those are slow

    print("chats:", *write_data(options.output / "data", SEED))
    tokenizer = build_tokenizer()
    model = build_model(tokenizer.get_vocab_size())
    print("parameters:", sum(p.numel() for p in model.parameters()))
    pretrain(model, tokenizer, options.steps, options.tokens, options.rate)
    write_model(model, tokenizer, options.output / "model")

    rng = random.Random(SEED + 1)
    print(f"lessons right: {exact_share(model, tokenizer, [lesson(rng) for _ in range(400)]):.3f}")
    lines = (options.output / "data" / "eval.jsonl").read_text(encoding="utf-8").splitlines()
    print(f"llama right: {exact_share(model, tokenizer, [json.loads(line)['messages'] for line in lines]):.3f}")


if __name__ == "__main__":
    main()
