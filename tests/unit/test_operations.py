"""The registry, and what is made from it."""

from __future__ import annotations

import importlib
import inspect

import pytest

from llamahome_tui.operations import OPERATIONS, find
from scripts.parity import PAGE, page
from tests.conftest import REPOSITORY


def test_the_page_of_both_faces_is_up_to_date():
    assert PAGE.read_text(encoding="utf-8") == page(), "run: make docs"


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda o: o.name)
def test_every_operation_is_a_generator_function_that_takes_its_arguments(operation):
    module, _, name = operation.function.partition(":")
    function = getattr(importlib.import_module(f"llamahome_tui.{module}"), name)
    parameters = inspect.signature(function).parameters
    taken = list(parameters)[1:]
    open_ended = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    assert open_ended or set(taken) == {a.name for a in operation.arguments}
    assert inspect.getdoc(function)


def test_examples_are_real_operations():
    for operation in OPERATIONS:
        if operation.example:
            assert operation.example.startswith(f"llamahome --batch {operation.name}")


def test_unknown_arguments_are_refused():
    operation = find("runs", "list")
    with pytest.raises(TypeError, match="colour"):
        operation(None, colour="red")


def test_commands_in_the_readme_exist():
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    for line in text.splitlines():
        words = line.strip().removeprefix("$ ").split()
        if words[:2] == ["llamahome", "--batch"] and len(words) > 2 and not words[2].startswith("-"):
            assert find(words[2]) or find(words[2], words[3]), line
