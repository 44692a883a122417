"""The evaluating child where memory runs out: rows are taken in halves, and what does not fit at all is said."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

pytest.importorskip("torch")

import torch

from llamahome_tui.demo.paths import demo_model_dir
from llamahome_tui.errors import ResourceError
from llamahome_tui.workers import evaluate
from llamahome_tui.workers.evaluate import EvaluateRequest, answer, measure
from llamahome_tui.workers.generate import Author
from llamahome_tui.workers.request import GenerateRequest

pytestmark = pytest.mark.torch
FULL = RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")


def _author(most: int) -> Author:
    """A model whose memory holds so many rows."""

    def read(input_ids: Any, use_cache: bool) -> Any:
        if len(input_ids) > most:
            raise FULL
        return SimpleNamespace(logits=torch.nn.functional.one_hot(input_ids, 8).float())

    return cast("Author", SimpleNamespace(model=read, device=torch.device("cpu")))


def test_rows_are_measured_in_halves_with_the_same_figures() -> None:
    rows = [SimpleNamespace(ids=[1, n % 3, 2, 2], mask=[0, 1, 1, 1]) for n in range(7)]
    assert measure(_author(2), rows) == measure(_author(7), rows)
    with pytest.raises(RuntimeError, match="allocate"):
        measure(_author(0), rows)


def test_what_does_not_fit_is_said_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> Author:
        raise FULL

    monkeypatch.setattr(evaluate, "Author", full)
    request = EvaluateRequest(GenerateRequest(path=str(demo_model_dir()), chats=()), [])
    with pytest.raises(ResourceError) as refused:
        answer(request, lambda *_, **__: None)
    assert refused.value.error_code == "resource.memory" and "llamahome --batch system show" in refused.value.hint
