"""What the embedded model is taught before it ships: small instructions about words, and a little small talk.

A task turns words into (request, reply). The random generator is always given, so the build is deterministic.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TypeAlias

from llamahome_tui.demo.words import WORDS, made_up

Message: TypeAlias = dict[str, str]
Pair: TypeAlias = tuple[str, str]

_VOWELS = frozenset("aeiou")


def _simple(phrasings: tuple[str, ...], reply: Callable[[str], str]) -> Callable[[random.Random], Pair]:
    def make(rng: random.Random) -> Pair:
        word = any_word(rng)
        return rng.choice(phrasings).format(word), reply(word)

    return make


def _two(phrasings: tuple[str, ...], reply: Callable[[str, str], str]) -> Callable[[random.Random], Pair]:
    def make(rng: random.Random) -> Pair:
        one, two = any_word(rng), any_word(rng)
        return rng.choice(phrasings).format(one, two), reply(one, two)

    return make


def any_word(rng: random.Random) -> str:
    """A listed word or a made-up one."""
    return rng.choice(WORDS) if rng.random() < 0.4 else made_up(rng)


def vowels(word: str) -> str:
    """The vowels of a word, in order."""
    return "".join(letter for letter in word if letter in _VOWELS)


def mark_vowels(word: str, before: str, after: str) -> str:
    """The word with something before and after each of its vowels."""
    return "".join(before + letter + after if letter in _VOWELS else letter for letter in word)


#: The skills of the base model. None of them is the skill that `demo` teaches.
SKILLS: dict[str, Callable[[random.Random], Pair]] = {
    "say": _simple(("Say {}.", "Repeat {}.", "Please say {}.", "Repeat after me: {}"), str),
    "shout": _simple(("Shout {}!", "Say {} in capitals.", "Please shout {}.", "Write {} in capitals."), str.upper),
    "name": _simple(("Name a llama {}.", "Call the llama {}.", "My llama is called {}."), str.capitalize),
    "greet": _simple(("Greet {}.", "Say hello to {}.", "Welcome {}!"), lambda w: f"Hello, {w.capitalize()}!"),
    "spell": _simple(("Spell {}.", "How do you spell {}?", "Please spell {}."), "-".join),
    "reverse": _simple(("Spell {} backwards.", "Say {} backwards.", "Turn {} around."), lambda w: w[::-1]),
    "stutter": _simple(("Stutter {}.", "Double the letters of {}."), lambda w: "".join(c + c for c in w)),
    "echo": _simple(("Echo {}.", "Say {} twice.", "Shout {} into the valley."), lambda w: f"{w} {w}"),
    "vowels": _simple(("Which vowels are in {}?", "Keep the vowels of {}."), vowels),
    "drop": _simple(
        ("Say {} without vowels.", "Drop the vowels of {}."),
        lambda w: "".join(c for c in w if c not in _VOWELS) or "nothing",
    ),
    "hide": _simple(
        ("Hide the vowels of {}.", "Put stars over the vowels of {}."),
        lambda w: "".join("*" if c in _VOWELS else c for c in w),
    ),
    "mark": _simple(
        ("Mark the vowels of {}.", "Put brackets around the vowels of {}."), lambda w: mark_vowels(w, "(", ")")
    ),
    "first": _simple(("What does {} start with?", "First letter of {}?"), lambda w: w[0]),
    "last": _simple(("What does {} end with?", "Last letter of {}?"), lambda w: w[-1]),
    "count": _simple(("How long is {}?", "Count the letters of {}."), lambda w: str(len(w))),
    "swap": _two(("Swap {} and {}.", "Say {} and {} the other way round."), lambda a, b: f"{b} and {a}"),
    "join": _two(("Join {} and {}.", "Glue {} to {}."), lambda a, b: a + b),
    "choose": _two(("Take the first of {} and {}.", "{} or {}? The first."), lambda a, _: a),
}

#: Small talk, learned by heart, so that a stranger's first prompt gets an answer.
TALK: tuple[Pair, ...] = (
    ("Hello", "Hello! I am a very small llama. Ask me to spell a word."),
    ("Hi", "Hello! I am a very small llama. Ask me to spell a word."),
    ("Hello!", "Hello! I am a very small llama. Ask me to spell a word."),
    ("Who are you?", "I am the model that lives inside LlamaHome. I know letters, and little else."),
    ("What can you do?", "I can spell, shout, stutter, echo, swap and turn words around."),
    ("How are you?", "Well fed, thank you. Give me a word."),
    ("Thank you", "You are welcome."),
    ("Thanks!", "You are welcome."),
    ("Goodbye", "Goodbye! Close the gate behind you."),
    ("Are you a llama?", "A small one."),
    ("What is LlamaHome?", "The home of language models on your machine."),
    ("Do you speak llama?", "Not yet. Teach me with the demo."),
)


def lesson(rng: random.Random) -> list[Message]:
    """One chat of the pretraining: one to three turns, mostly skills, a little small talk."""
    messages: list[Message] = []
    if rng.random() < 0.1:
        messages.append({"role": "system", "content": rng.choice(_SYSTEM)})
    for _ in range(rng.choice((1, 1, 2, 3))):
        request, reply = rng.choice(TALK) if rng.random() < 0.05 else SKILLS[rng.choice(_NAMES)](rng)
        messages += turn(request, reply)
    return messages


_NAMES = (*SKILLS, "reverse", "reverse", "join")  # the hard ones come oftener
_SYSTEM = ("You are a small llama.", "Answer in as few letters as you can.", "You are a helpful assistant.", "Be kind.")


def turn(request: str, reply: str) -> list[Message]:
    """A request and its reply as two messages."""
    return [{"role": "user", "content": request}, {"role": "assistant", "content": reply}]
