"""Prompts to tokens: the model's own template, its limits, and hostile ones that never end."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from llamahome_tui.demo.paths import demo_model_dir
from llamahome_tui.errors import DataError, ModelError
from llamahome_tui.workers import encode
from llamahome_tui.workers.encode import Encoder
from llamahome_tui.workers.prompts import chat_of
from llamahome_tui.workers.request import GenerateRequest


def _encoder(template: str = "", **options: object) -> Encoder:
    return Encoder(GenerateRequest(str(demo_model_dir()), (), template=template, template_options=options))


def _template(folder: Path, text: str) -> str:
    (folder / "t.jinja").write_text(text)
    return str(folder / "t.jinja")


def test_the_embedded_models_form() -> None:
    encoder = _encoder()
    (ids,) = encoder.encode([chat_of("Hé", "Be kind.")])
    assert ids[0] == 1 and ids[-1] == 5
    assert encoder.decode(ids) == "Be kind.Hé"
    assert encoder.turn_ends() == {2}
    assert encoder.context == 512


def test_template_options_reach_the_template(tmp_path: Path) -> None:
    template = _template(tmp_path, "{{ messages[0].content }}{{ more }}")
    encoder = _encoder(template, more="!")
    assert [encoder.decode(ids) for ids in encoder.encode([chat_of("a"), chat_of("b")])] == ["a!", "b!"]


def test_a_prompt_that_leaves_no_room(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="at most 512") as caught:
        _encoder().encode([chat_of("a"), chat_of("a" * 600)])
    assert (caught.value.data["index"], caught.value.data["tokens"]) == (1, 604)
    with pytest.raises(DataError, match="empty"):
        _encoder(_template(tmp_path, "{{ '' }}")).encode([chat_of("a")])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{{ raise_exception('no system here') }}", "no system here"),
        ("{{ messages[9].content.x }}", "refuses this chat"),
        ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "not done within"),
        ("{{ ('x' * 9000000000) ~ 'y' }}", "memory"),
        ("{{ messages[0].content * 9000000000 }}", "memory"),
        ("{{ 'a'|nosuchfilter }}", "nosuchfilter"),
    ],
)
def test_refusing_and_hostile_templates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, said: str) -> None:
    monkeypatch.setattr(encode, "CPU_S", 1)
    before = [resource.getrlimit(which) for which in (resource.RLIMIT_CPU, resource.RLIMIT_AS)]
    with pytest.raises(DataError, match=said):
        _encoder(_template(tmp_path, text)).encode([chat_of("a")])
    assert [resource.getrlimit(which) for which in (resource.RLIMIT_CPU, resource.RLIMIT_AS)] == before


def test_a_broken_tokenizer_names_its_file(tmp_path: Path) -> None:
    for file in demo_model_dir().iterdir():
        (tmp_path / file.name).write_bytes(b"{" if file.name == "tokenizer.json" else file.read_bytes())
    with pytest.raises(ModelError, match=r"tokenizer\.json is no tokenizer"):
        Encoder(GenerateRequest(str(tmp_path), ()))
