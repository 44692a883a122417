"""The embedded chats: made anew they are the same bytes, and the skill is as it is described."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from llamahome_tui.demo.chats import to_llama, write_data
from llamahome_tui.demo.paths import demo_eval_file, demo_train_file
from llamahome_tui.demo.tasks import SKILLS, TALK, lesson
from llamahome_tui.demo.words import WORDS, made_up


def test_the_packaged_chats_are_what_the_build_writes(tmp_path: Path) -> None:
    assert write_data(tmp_path, 20) == (2680, 200)
    assert (tmp_path / "train.jsonl").read_bytes() == demo_train_file().read_bytes()
    assert (tmp_path / "eval.jsonl").read_bytes() == demo_eval_file().read_bytes()


@pytest.mark.parametrize(("word", "said"), [("garden", "gallardellan"), ("tea", "tellaalla"), ("sky", "sky")])
def test_the_language_of_the_llamas(word: str, said: str) -> None:
    assert to_llama(word) == said


def test_words_are_words() -> None:
    assert len(set(WORDS)) == len(WORDS) > 600
    assert all(word.isascii() and word.islower() and word.isalpha() for word in WORDS)
    rng = random.Random(1)
    assert all(2 <= len(made_up(rng)) <= 11 for _ in range(500))


def test_lessons_are_the_same_for_the_same_seed_and_never_llama() -> None:
    first = [lesson(random.Random(7)) for _ in range(3)]
    assert first[0] == first[1] == first[2]
    rng = random.Random(3)
    asked = [message["content"] for _ in range(2000) for message in lesson(rng) if message["role"] == "user"]
    known = {request for request, _ in TALK}
    assert not [
        text for text in asked if "in llama" in text or "to llama" in text or "llama word" in text or "llamas" in text
    ]
    assert known <= set(asked)


@pytest.mark.parametrize("skill", sorted(SKILLS))
def test_every_skill_asks_and_answers(skill: str) -> None:
    rng = random.Random(5)
    for _ in range(50):
        request, reply = SKILLS[skill](rng)
        assert request and reply == reply.strip()
