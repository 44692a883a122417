"""The sizes of a language model, from its config.json alone: what an estimate needs, and nothing of torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from llamahome_tui.errors import ModelError

# What other families call the same.
_NAMES: Final = {
    "hidden": ("hidden_size", "n_embd", "d_model"),
    "layers": ("num_hidden_layers", "n_layer", "num_layers", "n_layers"),
    "heads": ("num_attention_heads", "n_head", "n_heads"),
    "vocabulary": ("vocab_size",),
}
_EXPERTS: Final = ("num_local_experts", "num_experts", "n_routed_experts")


@dataclass(frozen=True, slots=True)
class Matrix:
    """A kind of linear layer: its name in the model, both widths, how many there are, and the share a token meets."""

    name: str
    rows: int
    columns: int
    count: int
    used: float = 1.0

    @property
    def parameters(self) -> int:
        """Of all of them together."""
        return self.rows * self.columns * self.count


@dataclass(frozen=True, slots=True)
class Architecture:
    """A decoder of the Llama kind, which most are near enough to for an estimate."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocabulary: int
    tied: bool
    gated: bool
    experts: int
    experts_used: int

    @classmethod
    def of(cls, config: Mapping[str, Any], where: str) -> Architecture:
        """The sizes in a config; raises ModelError `model.config` that names what it lacks. `where` is its path."""
        text = config.get("text_config")
        found = {**config, **text} if isinstance(text, Mapping) else config
        sizes = {name: _first(found, keys) for name, keys in _NAMES.items()}
        lacking = [_NAMES[name][0] for name, size in sizes.items() if not size]
        if lacking:
            raise ModelError(
                f"{where} does not say {', '.join(lacking)}, so that nothing can be told of the model",
                code="model.config",
                hint=f"look what it says: cat {where}",
                data={"file": where, "missing": lacking},
            )
        hidden, heads = sizes["hidden"], sizes["heads"]
        experts = _first(found, _EXPERTS)
        width = _first(found, ("intermediate_size", "n_inner", "ffn_dim"))
        return cls(
            layers=sizes["layers"],
            hidden=hidden,
            heads=heads,
            kv_heads=_first(found, ("num_key_value_heads",)) or heads,
            head_dim=_first(found, ("head_dim",)) or max(1, hidden // heads),
            intermediate=(_first(found, ("moe_intermediate_size",)) if experts else 0) or width or 4 * hidden,
            vocabulary=sizes["vocabulary"],
            tied=bool(found.get("tie_word_embeddings", False)),
            gated=_first(found, ("n_inner", "n_embd")) == 0,
            experts=experts,
            experts_used=min(_first(found, ("num_experts_per_tok",)) or experts, experts),
        )

    @property
    def embedding(self) -> int:
        """Parameters of the table of tokens."""
        return self.vocabulary * self.hidden

    @property
    def parameters(self) -> int:
        """Of the whole model."""
        head = 0 if self.tied else self.embedding
        return (
            self.embedding + head + sum(one.parameters for one in self.matrices()) + (2 * self.layers + 1) * self.hidden
        )

    def matrices(self) -> Iterator[Matrix]:
        """The linear layers of all blocks by kind; the head is none of them."""
        query, key = self.heads * self.head_dim, self.kv_heads * self.head_dim
        yield Matrix("q_proj", query, self.hidden, self.layers)
        yield Matrix("k_proj", key, self.hidden, self.layers)
        yield Matrix("v_proj", key, self.hidden, self.layers)
        yield Matrix("o_proj", self.hidden, query, self.layers)
        count, used = self.layers * max(1, self.experts), self.experts_used / self.experts if self.experts else 1.0
        for name in ("gate_proj", "up_proj") if self.gated else ("up_proj",):
            yield Matrix(name, self.intermediate, self.hidden, count, used)
        yield Matrix("down_proj", self.hidden, self.intermediate, count, used)


def _first(values: Mapping[str, Any], names: tuple[str, ...]) -> int:
    """The first of the names that stands there with a size above 0, else 0."""
    for name in names:
        value = values.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return 0
