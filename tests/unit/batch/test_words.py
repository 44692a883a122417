"""Words of a command line: what is understood, and what is said about what is not."""

from __future__ import annotations

import pytest

from llamahome_tui.batch.words import build_parser, read_words
from llamahome_tui.errors import UsageError
from llamahome_tui.operations import NOUNS, OPERATIONS


def read(line: str):
    return read_words(line.split())


def test_common_flags_stand_anywhere_after_the_noun():
    for line in ("runs list --json --limit 3", "runs --json list --limit 3", "--json runs list --limit 3"):
        asked = read(line)
        assert (asked.operation.name, asked.arguments, asked.json) == ("runs list", {"limit": 3}, True)
    asked = read("config get ui.theme --quiet --yes --no-env-file")
    assert (asked.quiet, asked.yes, asked.env_file) == (True, True, False)


@pytest.mark.parametrize(
    ("line", "arguments"),
    [
        ("runs wait a --json b --timeout 1h30m", {"id": ("a", "b"), "timeout": 5400.0}),
        ("runs tag latest -old", {"id": "latest", "tag": "-old"}),
        ("runs assert x eval_loss<-1", {"id": "x", "condition": "eval_loss<-1"}),
        ("train start --model demo --data a b --name n", {"model": "demo", "data": ("a", "b"), "name": "n"}),
        ("train start --set a=1 s.toml --set b=-2", {"spec": "s.toml", "set": ("a=1", "b=-2")}),
        ("train start - --or-resume", {"spec": "-", "or_resume": True}),
        ("runs exec --name n -- ls --json -x", {"name": "n", "command": ("ls", "--json", "-x")}),
        ("generate m --prompt - --temperature 0.5", {"model": "m", "prompt": "-", "temperature": 0.5}),
        ("generate -- --m", {"model": "--m"}),
        ("config set ui.theme -x", {"key": "ui.theme", "value": "-x"}),
    ],
)
def test_arguments(line, arguments):
    assert read(line).arguments == arguments


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("rns list", "did you mean runs"),
        ("runs lst", "did you mean list"),
        ("runs list --limt 3", "did you mean --limit"),
        ("runs list --jsn", "did you mean --json"),
        ("runs list --limit three", "not a whole number"),
        ("runs wait a --timeout 3x", "not a duration"),
        ("runs", "needs a verb"),
        ("", "name what to do"),
        ("runs exec --name n", "after --"),
        ("runs exec --name n ls", "after --"),
        ("runs show", "ID"),
        ("logs show x --level loud", "loud"),
    ],
)
def test_mistakes_are_usage_errors_that_say_what_to_do(line, says):
    with pytest.raises(UsageError) as caught:
        read(line)
    assert says in caught.value.message
    assert "\0" not in caught.value.message
    assert "llamahome --batch" in caught.value.hint
    assert caught.value.exit == 2


@pytest.mark.parametrize("line", ["", "--json", "--json --quiet", "--yes --json --yes"])
def test_flags_alone_name_nothing_to_do(line):
    with pytest.raises(UsageError, match="a noun and a verb"):
        read(line)


def test_help_is_made_from_the_registry():
    overview = read("--help").help
    for noun in NOUNS:
        assert f"\n  {noun} " in overview
    for operation in OPERATIONS:
        if operation.verb:
            assert operation.verb in read(f"{operation.noun} --help").help
        text = read(f"{operation.name} --help").help
        assert operation.help.split(",")[0].lower() in text.lower()
        for argument in operation.arguments:
            if argument.shape in ("flag", "option"):
                assert argument.flag in text


def test_every_operation_has_a_known_noun_and_a_parser():
    assert {o.noun for o in OPERATIONS} == set(NOUNS)
    assert len({o.name for o in OPERATIONS}) == len(OPERATIONS)
    for operation in OPERATIONS:
        build_parser(operation)
