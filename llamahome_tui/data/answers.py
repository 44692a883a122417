"""What the model writes for each answer of a chat: exactly what the template adds to the prompt it would be asked with.

The prompt of message k is the chat before it, rendered with a generation prompt; its answer is what the chat up to
and with it has beyond that. Both must stand in the finished chat, or a model would learn what it never writes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from llamahome_tui.data.holes import Hole, Shape, emptied, plain_words, shape_of
from llamahome_tui.data.row import WAYS_OUT
from llamahome_tui.data.samples import Chat
from llamahome_tui.data.template import ChatTemplate, Rendered, RenderError

Why = Literal["opening", "prompt", "history", "thinking", "merged", "changed", "left out", "refused", "tokens", "bos"]
_MOST_SHAPES = 8
_SHOWN = 32  # characters of a difference that a reason quotes
_THINKING = re.compile(r"\s*</?(?:think|\|channel\|?>(?:thought|analysis)|\|start\|>assistant to=self)")
LEFT_OUT = "the chat template leaves out what the answers think: it is not trained on"


class MaskError(Exception):
    """The learned part of a chat cannot be told exactly: `reason`, its kind, and `ways` out of it."""

    def __init__(self, reason: str, ways: Sequence[str] = (), why: Why = "tokens") -> None:
        super().__init__(reason + (WAYS_OUT + ", or ".join(ways) if ways else ""))
        self.reason = reason
        self.ways = tuple(ways)
        self.why = why


@dataclass(slots=True)
class Known:
    """What was learned of a template under one set of options; each is checked against every chat it is used for."""

    prompt: str | None = None  # the end of every prompt
    tail: str | None = None  # the end of every chat that stops after an answer
    shapes: list[tuple[Shape, tuple[int, ...], int]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Answer:
    """The span [start, end) of an answer. `ended`: its last token is one that ends a turn."""

    start: int
    end: int
    ended: bool


class Script:
    """A chat as the template writes it. Prefixes of it are rendered only where they do not follow from the whole."""

    def __init__(self, template: ChatTemplate, chat: Chat, options: Mapping[str, Any], special: Sequence[str]) -> None:
        """Raises RenderError where the template refuses the chat."""
        self.chat = chat
        self.doubts: list[str] = []
        self._template = template
        self._options = options
        self._special = tuple(special)
        self._prompts: dict[int, Rendered] = {}
        self.whole = template.rendered(chat.messages, tools=chat.tools, **options)
        key = (bool(chat.tools), self._special, repr(sorted(options.items())) if options else "")
        self._known: Known = template.known.setdefault(key, Known())

    @property
    def text(self) -> str:
        """The whole chat."""
        return self.whole.text

    def answer(self, turn: int) -> Answer:
        """Where message `turn` stands, from the end of its prompt through the token that ends it. Raises MaskError."""
        start = self._start(turn)
        written = self._written(turn, start)
        body, ends, words = self._closing(turn, written, start)
        text = self.text
        for end in ends if words else ends[:1]:
            if text.startswith(written[:end], start):
                return Answer(start, start + end, True)
        if len(ends) == 1 and words and text.startswith(written[:body], start):
            # Another token ends an answer that is not the last one (<|end|> for <|return|>).
            at = start + body
            token = max((one for one in self._special if text.startswith(one, at)), key=len, default="")
            if token:
                return Answer(start, at + len(token), True)
        if not ends and text.startswith(written, start):
            return Answer(start, start + len(written), False)
        raise self._written_anew(turn, start, written, body)

    def refuse_lost_calls(self) -> None:
        """Raises MaskError where a tool call does not show in the chat: it would be gone without a word."""
        if not any(message.get("tool_calls") for message in self.chat.messages):
            return
        avoid = self.text
        filled: list[Mapping[str, Any]] = []
        calls: list[Hole] = []
        for message in self.chat.messages:
            changed, holes = emptied({"tool_calls": message.get("tool_calls")}, avoid)
            filled.append({**message, **changed} if holes else message)
            calls += holes
            avoid += "".join(hole.stand_in for hole in holes)
        try:
            shown = self._template.render(filled, tools=self.chat.tools, **self._options)
        except RenderError as error:
            raise MaskError(f"the chat template refuses tools of another name: {error}", why="refused") from None
        lost = next((hole.value for hole in calls if hole.stand_in not in shown), None)
        if lost is not None:
            raise MaskError(f'the chat template leaves out a call of the tool "{lost[:40]}"', why="left out")

    def prompt(self, turn: int) -> Rendered:
        """What a model is asked with for message `turn`. Raises MaskError where the template refuses that."""
        if turn not in self._prompts:
            try:
                self._prompts[turn] = self._render(turn, add_generation_prompt=True)
            except RenderError as error:
                raise MaskError(
                    f"the chat template refuses the prompt of message {turn + 1}: {error}", why="refused"
                ) from None
        return self._prompts[turn]

    def header(self, turn: int) -> int:
        """Where in the prompt of message `turn` that begins which asks for an answer: the role's header."""
        prompt = self.prompt(turn).text
        try:
            return shared(self._render(turn).text, prompt)
        except RenderError:
            return len(prompt)

    def _start(self, turn: int) -> int:
        if turn == 0:
            raise MaskError("the chat starts with an answer, which no prompt asks for", why="opening")
        at, known, text = self.whole.starts.get(turn), self._known, self.text
        if at is not None and known.prompt is not None and text.startswith(known.prompt, at):
            return at + len(known.prompt)
        prompt = self.prompt(turn).text
        if at is not None and prompt.startswith(text[:at]):
            known.prompt = prompt[at:]
        if not text.startswith(prompt):
            raise self._other_prompt(turn, prompt)
        return len(prompt)

    def _written(self, turn: int, start: int) -> str:
        """What the chat that ends with message `turn` has beyond its prompt."""
        if turn == len(self.chat.messages) - 1:
            return self.text[start:]
        end = self.whole.starts.get(turn + 1)
        if end is not None and self._known.tail is not None and end >= start:
            return self.text[start:end] + self._known.tail
        try:
            until = self._render(turn + 1).text
        except RenderError as error:
            raise MaskError(
                f"the chat template refuses a chat that ends with message {turn + 1}: {error}", why="refused"
            ) from None
        if not until.startswith(self.text[:start]):
            same = shared(until, self.text[:start])
            if _is_thinking(until, same):
                raise self._drops_thinking(turn, until[same:])
            raise MaskError(
                f"the chat template writes the prompt of message {turn + 1} in another way once it is answered",
                why="history",
            )
        if end is not None and until.startswith(self.text[:end]):
            self._known.tail = until[end:]
        return until[start:]

    def _closing(self, turn: int, written: str, start: int) -> tuple[int, tuple[int, ...], bool]:
        """Where in `written` the tokens that end the turn begin, the ends of each, longest first, and if it has words.

        Told by what follows the message's last word, so that no token in the message is taken for one.
        """
        message = self.chat.messages[turn]
        if (content := plain_words(message)) is not None:
            for shape, ends, body in self._known.shapes:
                if shape.words == (0,) and written == content.join(shape.pieces):
                    before = len(written) - len(shape.tail)
                    return before + body, tuple([before + end for end in ends]), True
        filled, holes = emptied(message, self.text)
        for shape, ends, body in self._known.shapes:
            if len(set(shape.words)) == len(holes) and shape.fits(holes, written):
                before = len(written) - len(shape.tail)
                return before + body, tuple(before + end for end in ends), bool(shape.words)
        shape = self._shape(turn, filled, holes, start, written) if holes else Shape((written,), ())
        if not shape.fits(holes, written) and not any(hole.value.strip() for hole in holes):
            shape = Shape((written,), ())  # an empty answer may be written in a way of its own
        if not shape.fits(holes, written):
            raise MaskError(f"the chat template changes the text of message {turn + 1}", why="changed")
        body, ends = _closing_tokens(shape.tail, self._special)
        if not any(hole.kind == "call" for hole in holes):  # calls have arguments, so that no other message is alike
            self._known.shapes.insert(0, (shape, ends, body))
            del self._known.shapes[_MOST_SHAPES:]
        before = len(written) - len(shape.tail)
        return before + body, tuple(before + end for end in ends), bool(shape.words)

    def _shape(self, turn: int, filled: Mapping[str, Any], holes: Sequence[Hole], start: int, written: str) -> Shape:
        try:
            rendered = self._template.render(
                [*self.chat.messages[:turn], filled], tools=self.chat.tools, **self._options
            )
        except RenderError as error:
            raise MaskError(
                f"the chat template refuses other words in place of message {turn + 1}: {error}", why="refused"
            ) from None
        if not rendered.startswith(self.text[:start]):
            raise MaskError(
                f"what the chat template writes before message {turn + 1} depends on its words", why="history"
            )
        shape = shape_of(rendered[start:], holes)
        for at, hole in enumerate(holes):
            if at in shape.words:
                continue
            if hole.kind == "thinking" and "</think>" not in str(filled.get("content") or ""):
                self.doubts.append(LEFT_OUT)
            else:
                what = {"text": "the text", "thinking": "the thinking", "call": f'the call of "{hole.value[:40]}"'}
                how: tuple[str, Why] = (
                    ("leaves out", "left out") if shape.pieces == (written,) else ("changes", "changed")
                )
                raise MaskError(f"the chat template {how[0]} {what[hole.kind]} of message {turn + 1}", why=how[1])
        return shape

    def _render(self, count: int, *, add_generation_prompt: bool = False) -> Rendered:
        return self._template.rendered(
            self.chat.messages[:count],
            add_generation_prompt=add_generation_prompt,
            tools=self.chat.tools,
            **self._options,
        )

    def _other_prompt(self, turn: int, prompt: str) -> MaskError:
        same = shared(prompt, self.text)
        asked, shown = prompt[same:], self.text[same:]
        if same >= self.header(turn):
            return MaskError(
                f"a model is asked for message {turn + 1} with a prompt that ends in {_ending(prompt)}, "
                f"and the finished chat goes on with {_quoted(shown)} in place of {_quoted(asked)}",
                why="prompt",
            )
        if _is_thinking(prompt, same):
            return self._drops_thinking(None, asked)
        return MaskError(
            f"the chat template writes what comes before message {turn + 1} in another way once the chat goes on: "
            f"first {_quoted(asked)}, then {_quoted(shown)}",
            why="history",
        )

    def _written_anew(self, turn: int, start: int, written: str, body: int) -> MaskError:
        same = shared(written, self.text[start:])
        first, then = written[same:], self.text[start + same :]
        if _is_thinking(written, same):
            return self._drops_thinking(turn, first)
        if same >= body:
            return MaskError(
                f"the chat template writes no end of turn between message {turn + 1} and what follows", why="merged"
            )
        return MaskError(
            f"the chat template writes message {turn + 1} in another way once the chat goes on: "
            f"first {_quoted(first)}, then {_quoted(then)}",
            why="history",
        )

    def _drops_thinking(self, turn: int | None, dropped: str) -> MaskError:
        whose = "an answer" if turn is None else f"message {turn + 1}"
        return MaskError(
            f"the chat template drops the thinking of {whose} once the chat goes on ({_quoted(dropped)}), "
            "so the finished chat does not hold what the model writes there",
            why="thinking",
        )


def shared(one: str, other: str) -> int:
    """How many characters two texts have in common at their start."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _is_thinking(text: str, at: int) -> bool:
    """Whether what stands at `at`, or in the tag that it is in, is a model's thinking."""
    tag = text.rfind("<", max(0, at - 16), at)
    return any(_THINKING.match(text, one) is not None for one in (at, tag) if one >= 0)


def _closing_tokens(tail: str, special: tuple[str, ...]) -> tuple[int, tuple[int, ...]]:
    """Where the tokens that end `tail` begin, and where each ends, longest first; white space may stand between."""
    ends: list[int] = []
    at = len(tail.rstrip())
    while tail[:at].endswith(special):
        ends.append(at)
        at -= max(len(one) for one in special if tail[:at].endswith(one))
        rest = len(tail[:at].rstrip())
        if not tail[:rest].endswith(special):
            break
        at = rest
    return (at if ends else len(tail)), tuple(ends)


def _quoted(text: str) -> str:
    return repr(text[:_SHOWN]) if text else "its end"


def _ending(text: str) -> str:
    return repr(text[-_SHOWN:])
