"""T07: a template that loops or eats memory is an error after a bounded time, and costs this process nothing."""

from __future__ import annotations

import json
import os
import resource
from pathlib import Path

import pytest

from llamahome_tui.data import probe
from llamahome_tui.data.prepare import preflight
from llamahome_tui.data.samples import Chat
from llamahome_tui.data.template import ChatTemplate
from llamahome_tui.errors import DataError
from llamahome_tui.training.spec import read_spec
from tests.unit.data import templates

CHAT = Chat(({"role": "user", "content": "hi"}, {"role": "assistant", "content": "you"}))


def tried(text: str) -> None:
    template = ChatTemplate(text, {"eos_token": "</s>"}, source="t.jinja")
    probe.probe(template, [CHAT] * 3, train_on="assistant", options={"x": 1}, special=templates.TOKENS)


@pytest.mark.parametrize("name", ["CHATML", "LLAMA2", "THINKING", "NO_END", "REWRITES"])
def test_honest_templates_pass(name: str) -> None:
    tried(getattr(templates, name))
    tried("{{ raise_exception('no') }}")
    tried("{{ nothing.at.all }}")


@pytest.mark.parametrize(
    "text",
    [
        "{{ 'a' * 4000000000 }}",
        "{{ 'x' | center(4000000000) }}",
        "{% set n = namespace(s='aaaaaaaaaa') %}{% for i in range(60) %}{% set n.s = n.s + n.s %}{% endfor %}",
    ],
)
def test_t07_memory(text: str) -> None:
    with pytest.raises(DataError, match=r"memory.*t\.jinja") as error:
        tried(text)
    assert (error.value.error_code, error.value.exit) == ("template.unbounded", 3)


def test_t07_endless(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(probe, "_WALL_S", 4.0)
    endless = "{% for a in range(99999) %}" * 3 + "{% endfor %}" * 3
    model = templates.write_tokenizer(tmp_path / "m", "bytes", endless + templates.CHATML)
    (tmp_path / "d.jsonl").write_text(json.dumps({"prompt": "a", "completion": "b"}) + "\n")
    text = '[model]\nid = "./m"\n[data]\ntrain = ["d.jsonl"]\n'
    before = os.times()
    with pytest.raises(DataError, match="is not done within"):
        preflight(read_spec(text, source="s", folder=tmp_path, environ={}), model)
    after = os.times()
    assert after.user - before.user < 2
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
