"""NEFTune (Jain et al. 2023): uniform noise on the embeddings while training, smaller the longer the row.

Noise is drawn from the same generator as dropout, so a checkpoint holds its state.
"""

from __future__ import annotations

from typing import Any

import torch


def add_noise(base: Any, alpha: float) -> None:
    """From now on each training call of the model adds noise of at most alpha / sqrt(length x width) to embeddings.

    The length is that of a row with its padding, as in transformers; in a packed sequence it is each row's own.
    """
    told: list[Any] = [None]

    def listen(_decoder: Any, _args: Any, given: dict[str, Any]) -> None:
        told[0] = given.get("position_ids")

    def disturb(module: Any, _args: Any, embedded: Any) -> Any:
        if not module.training:
            return embedded
        lengths = row_lengths(told[0], embedded)
        strength = alpha / torch.sqrt(lengths * embedded.shape[-1])
        return embedded + torch.zeros_like(embedded).uniform_(-1, 1) * strength.to(embedded.dtype)

    base.base_model.register_forward_pre_hook(listen, with_kwargs=True)
    base.get_input_embeddings().register_forward_hook(disturb)


def row_lengths(positions: Any, embedded: Any) -> Any:
    """For each token the length of its row, [rows or 1, length or 1, 1]: positions that start again begin a new one."""
    length = embedded.shape[1]
    if positions is None:
        return torch.tensor(float(length), device=embedded.device).view(1, 1, 1)
    at = torch.arange(length, device=positions.device).expand_as(positions)
    begins = torch.where(positions == 0, at, length)
    ends = torch.cat([begins[:, 1:], torch.full_like(begins[:, :1], length)], dim=1)
    end = ends.flip(1).cummin(dim=1).values.flip(1)
    return (end - at + positions).float().unsqueeze(-1)
