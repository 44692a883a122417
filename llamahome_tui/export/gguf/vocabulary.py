"""The vocabulary of a tokenizer.json as llama.cpp holds it; what it would cut in another way is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from llamahome_tui.errors import ModelError

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
SPACE: Final = "\u2581"

_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
PATTERNS: Final[Mapping[str, tuple[str, bool]]] = {  # pattern -> llama.cpp's name, whole words without their merges
    _WORDS + r"\p{N}{1,3}" + _REST: ("llama-bpe", True),
    _WORDS + r"\p{N}" + _REST: ("qwen2", False),
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*|\p{{N}}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+": ("tekken", True),
}


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Tokens by id; `scores` for the kind "llama" only, `merges` for "gpt2" only."""

    kind: str
    pre: str
    tokens: tuple[str, ...]
    types: tuple[int, ...]
    scores: tuple[float, ...] = ()
    merges: tuple[str, ...] = ()
    space_prefix: bool | None = None


def unknown(what: str) -> ModelError:
    """The refusal of a tokenizer that can't be carried exactly."""
    return ModelError(
        f"tokenizer.json: {what}: llama.cpp would cut text in another way",
        code="export.gguf_tokenizer",
        hint="export it as safetensors instead: llamahome --batch runs export RUN --merge",
    )


def vocabulary(tokenizer: Mapping[str, Any], size: int) -> Vocabulary:
    """The vocabulary of `tokenizer` (the content of tokenizer.json), filled up to `size`, the rows of the embedding.

    Raises ModelError (exit 3) for a kind that llama.cpp does not have.
    """
    model = tokenizer.get("model") or {}
    if model.get("type") != "BPE":
        raise unknown(f"a model of the kind {model.get('type')}")
    table, added, merges = _read(tokenizer, model)
    if table and max(table) >= size:
        raise unknown(f"token {max(table)} has no row in the embedding of {size}")
    byte_kind = bool(model.get("byte_fallback"))
    types = [_type(table.get(at), added.get(at), byte_kind, model.get("unk_token")) for at in range(size)]
    tokens = tuple(table.get(at, f"[PAD{at}]") for at in range(size))
    if len(set(tokens)) != len(tokens):
        raise unknown("two tokens have the same text")
    if byte_kind:
        scores = _scores(tokens, types, merges)
        return Vocabulary("llama", "default", tokens, tuple(types), scores, space_prefix=_space_prefix(tokenizer))
    pre = _pre(tokenizer, bool(model.get("ignore_merges")))
    # Spaces inside a half can't stand in the file's "left right" lines; byte-level alphabets have none.
    if any(" " in half for merge in merges for half in merge):
        raise unknown("a merge holds a space")
    return Vocabulary("gpt2", pre, tokens, tuple(types), merges=tuple(" ".join(merge) for merge in merges))


def _read(
    tokenizer: Mapping[str, Any], model: Mapping[str, Any]
) -> tuple[dict[int, str], dict[int, Mapping[str, Any]], list[tuple[str, ...]]]:
    """Tokens by id, the added ones among them, and the merges. The file is anybody's: what is none is refused."""
    try:
        merges = [tuple(one.split(" ", 1)) if isinstance(one, str) else tuple(one) for one in model.get("merges") or []]
        table: dict[int, str] = {int(at): token for token, at in model["vocab"].items()}
        added = {int(one["id"]): one for one in tokenizer.get("added_tokens") or []}
        table.update({at: one["content"] for at, one in added.items()})
        for text in (*table.values(), *(half for merge in merges for half in merge)):
            text.encode("utf-8")  # half a pair of surrogates has no bytes
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise unknown(f"its vocabulary can't be read ({type(error).__name__})") from error
    if any(len(merge) != 2 for merge in merges):
        raise unknown("a merge that is no pair")
    if any(at < 0 for at in table):
        raise unknown("a token below 0")
    return table, added, merges


def _type(token: str | None, added: Mapping[str, Any] | None, bytes_too: bool, unk: str | None) -> int:
    if token is None:
        return UNUSED
    if bytes_too and token == unk:
        return UNKNOWN
    if added is not None:
        return CONTROL if added.get("special") else USER_DEFINED
    if bytes_too and len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
        return BYTE
    return NORMAL


def _scores(tokens: Sequence[str], types: Sequence[int], merges: Sequence[tuple[str, ...]]) -> tuple[float, ...]:
    """Scores that make llama.cpp join pieces in the order of the merges: it joins the pair with the best whole.

    That is the same only where all merges of a whole stand together and every pair that makes a whole is a merge.
    """
    rank: dict[str, int] = {}
    last = ""
    for left, right in merges:
        whole = left + right
        if whole != last and whole in rank:
            raise unknown(f"the merges of {whole!r} do not stand together")
        rank.setdefault(whole, len(rank))
        last = whole
    pairs = set(merges)
    known = {token for token, kind in zip(tokens, types, strict=True) if kind == NORMAL}
    for token in known:
        for cut in range(1, len(token)):
            pair = (token[:cut], token[cut:])
            if pair[0] in known and pair[1] in known and pair not in pairs:
                raise unknown(f"{token!r} is not merged from {pair[0]!r} and {pair[1]!r}")
    lowest = -float(len(rank) + 1)
    return tuple(
        (-float(rank[token]) if token in rank else lowest) if kind == NORMAL else (0.0 if kind == BYTE else -1000.0)
        for token, kind in zip(tokens, types, strict=True)
    )


def _parts(step: Any) -> list[Mapping[str, Any]]:
    """A normaliser's or pre-tokenizer's steps, in order."""
    if not step:
        return []
    inner = step.get("pretokenizers") or step.get("normalizers") if step.get("type") == "Sequence" else None
    return list(inner) if inner else [step]


def _space_prefix(tokenizer: Mapping[str, Any]) -> bool:
    """Whether a space is put before the text. Raises ModelError for other changes of the text."""
    prefix, spaces = False, False
    for step in _parts(tokenizer.get("normalizer")):
        kind = step.get("type")
        if kind == "Prepend" and step.get("prepend") == SPACE:
            prefix = True
        elif kind == "Replace" and step.get("pattern") == {"String": " "} and step.get("content") == SPACE:
            spaces = True
        else:
            raise unknown(f"the normaliser {kind}")
    for step in _parts(tokenizer.get("pre_tokenizer")):
        if step.get("type") == "Metaspace" and step.get("replacement") == SPACE and not step.get("split", True):
            spaces, prefix = True, step.get("prepend_scheme") in ("first", "always")
        elif not (step.get("type") == "Split" and step.get("pattern") == {"String": " "}):  # after Replace: no spaces
            raise unknown(f"the pre-tokenizer {step.get('type')}")
    if not spaces:
        raise unknown("spaces are left as they are")
    return prefix


def _pre(tokenizer: Mapping[str, Any], whole_words: bool) -> str:
    """llama.cpp's name for how text is cut into words."""
    for step in _parts(tokenizer.get("normalizer")):
        if step.get("type") != "NFC":  # llama.cpp has none; text is nearly always in that form already
            raise unknown(f"the normaliser {step.get('type')}")
    steps = _parts(tokenizer.get("pre_tokenizer"))
    level = steps[-1] if steps else {}
    if level.get("type") != "ByteLevel" or level.get("add_prefix_space"):
        raise unknown("text is not cut at byte level")
    if len(steps) == 1 and level.get("use_regex", True) and not whole_words:
        return "gpt-2"
    if len(steps) == 2 and not level.get("use_regex", True):
        first = steps[0]
        regex = (first.get("pattern") or {}).get("Regex")
        if first.get("type") == "Split" and first.get("behavior") == "Isolated" and not first.get("invert"):
            name, whole = PATTERNS.get(str(regex), ("", False))
            if name and whole == whole_words:
                return name
    raise unknown("an unknown pre-tokenizer")
