"""Chat templates render as transformers renders them, are found where models keep them, and cannot reach out."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from llamahome_tui.data.template import ChatTemplate, RenderError
from llamahome_tui.errors import DataError, ModelError
from tests.unit.data import templates

SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}
CHAT = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "fine & <b>"}]
ALL = {
    name: getattr(templates, name)
    for name in dir(templates)
    if name.isupper() and isinstance(getattr(templates, name), str)
}
ALL.pop("TEXT")
ODD = {
    "filters": "{{ messages | tojson }}|{{ messages | tojson(indent=2) }}|{{ {'b': 'é<', 'a': 1} | tojson }}",
    "loop control": "{% for m in messages %}{% if loop.index0 %}{% break %}{% endif %}{{ m.content }}{% endfor %}",
    "white space": "  {% if true %}\n  x\n  {% endif %}\n y",
    "undefined": "[{{ nothing }}][{{ pad_token }}][{{ tools }}][{{ documents }}]",
    "namespace": "{% set n = namespace(x=1) %}{% set n.x = 2 %}{{ n.x }}{{ dict(a=1) }}",
    "macro": "{% macro say(m) %}{% generation %}{{ m.content }}{% endgeneration %}{% endmacro %}"
    "{% for m in messages %}{{ m.role }}:{{ say(m) }};{% endfor %}",
    "slices": "{{ messages[-1].content[1:3] }}{{ messages[::-1][0]['role'] }}{{ 'a,b'.split(',')[1] | trim | upper }}",
    "reasoning": "{% for m in messages %}{{ m.reasoning_content or '' }}{{ m.thinking or '' }}{% endfor %}",
}


@pytest.mark.torch
@pytest.mark.parametrize("text", [*ALL.values(), *ODD.values()], ids=[*ALL, *ODD])
@pytest.mark.parametrize("prompt", [True, False], ids=["prompt", "whole"])
def test_as_transformers_renders(text: str, prompt: bool) -> None:
    pytest.importorskip("transformers")
    from transformers.utils.chat_template_utils import render_jinja_template

    chat: list[dict[str, Any]] = [*CHAT, {"role": "user", "content": "x"}, CHAT[1] | {"reasoning": "why"}]
    (theirs,), (marks,) = render_jinja_template(
        [chat], chat_template=text, return_assistant_tokens_mask=True, add_generation_prompt=prompt, **SPECIAL
    )
    ours = ChatTemplate(text, SPECIAL).rendered(chat, add_generation_prompt=prompt)
    assert ours.text == theirs
    assert list(ours.marked) == marks


@pytest.mark.parametrize(
    "text",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{{ raise_exception.__globals__ }}",
        "{{ namespace(__class__=1) }}",
        "{% set n = namespace() %}{% set n.__class__ = 1 %}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        "{{ lipsum.__globals__ }}",
        "{{ messages[0].__setitem__('role', 'x') }}",
        "{{ 1 / 0 }}",
        "{{ messages[9].content.x }}",
        "{% include '/etc/passwd' %}",
    ],
)
def test_what_reaches_out_or_breaks_is_a_render_error(text: str) -> None:
    messages = [dict(message) for message in CHAT]
    with pytest.raises(RenderError):
        assert "object" not in ChatTemplate(text, SPECIAL).render(messages)
        raise RenderError("rendered to nothing")
    assert messages == CHAT


def test_a_template_that_refuses_says_why() -> None:
    with pytest.raises(RenderError, match="only user and assistant speak here"):
        ChatTemplate(templates.LLAMA2, SPECIAL).render([{"role": "system", "content": "x"}])


def test_options_and_a_fixed_date() -> None:
    template = ChatTemplate("{{ mood }} {{ strftime_now('%Y-%m-%d') }}", SPECIAL, now=datetime(2024, 5, 6, tzinfo=UTC))
    assert template.render(CHAT, mood="good") == "good 2024-05-06"
    assert template.tells_time


def test_where_templates_are_found(tmp_path: Path) -> None:
    def found(override: str | Path = "") -> str | None:
        template = ChatTemplate.load(tmp_path, override)
        return template and template.render(CHAT, tools=[])

    assert found() is None
    config = tmp_path / "tokenizer_config.json"
    config.write_text(json.dumps({"bos_token": {"content": "<B>"}, "chat_template": "config {{ bos_token }}"}))
    assert found() == "config <B>"
    named = [{"name": "default", "template": "default"}, {"name": "tool_use", "template": "tools"}]
    config.write_text(json.dumps({"chat_template": named}))
    template = ChatTemplate.load(tmp_path)
    assert template is not None
    assert (template.render(CHAT), template.render(CHAT, tools=[{"function": {}}])) == ("default", "tools")
    (tmp_path / "chat_template.json").write_text(json.dumps({"chat_template": "legacy"}))
    assert found() == "legacy"
    (tmp_path / "chat_template.jinja").write_bytes(b"own\r\nfile")
    assert found() == "own\nfile"
    other = tmp_path / "other.jinja"
    other.write_text("override")
    assert found(other) == "override"


def test_broken_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.jinja"):
        ChatTemplate.load(tmp_path, tmp_path / "none.jinja")
    (tmp_path / "t.jinja").write_text("\n{% if %}")
    with pytest.raises(DataError, match=r"t\.jinja:2: the chat template is no Jinja"):
        ChatTemplate.load(tmp_path, tmp_path / "t.jinja")
    (tmp_path / "chat_template.jinja").write_bytes(b"\xff")
    with pytest.raises(ModelError, match="UTF-8"):
        ChatTemplate.load(tmp_path)
    (tmp_path / "chat_template.jinja").unlink()
    (tmp_path / "tokenizer_config.json").write_text("{")
    with pytest.raises(ModelError, match=r"tokenizer_config\.json is not JSON"):
        ChatTemplate.load(tmp_path)


def test_a_file_that_cannot_be_read_is_an_error_with_a_next_step(tmp_path: Path) -> None:
    for name, content in (("none.jinja", None), ("latin.jinja", b"caf\xe9")):
        if content:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=r"data\.template: .*\.jinja (cannot be read|is not UTF-8)") as refused:
            ChatTemplate.load(tmp_path, tmp_path / name)
        assert "llamahome --batch" in refused.value.hint
    (tmp_path / "tokenizer_config.json").write_text("[")
    with pytest.raises(ModelError, match="is not JSON") as broken:
        ChatTemplate.load(tmp_path)
    assert broken.value.hint.endswith(f"llamahome --batch models show {tmp_path}")
