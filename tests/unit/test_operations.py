"""The registry, and what is made from it."""

from __future__ import annotations

import importlib
import inspect
import re

import pytest

from llamahome_tui.operations import NOUNS, OPERATIONS, find
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


PAGES = [*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").glob("*.md")]
SPOKEN = [*PAGES, *(REPOSITORY / "llamahome_tui").rglob("*.py"), REPOSITORY / "Makefile", REPOSITORY / ".env.example"]


def test_every_command_that_a_page_or_a_hint_names_exists():
    wrong = []
    for path in SPOKEN:
        for match in re.finditer(r"llamahome --batch ([a-z]+)(?: ([a-z]+))?", path.read_text(encoding="utf-8")):
            noun, verb = match.groups()
            whole = find(noun) is not None or find(noun, verb or "") is not None
            if not whole and not (noun in NOUNS and verb is None):
                wrong.append(f"{path.relative_to(REPOSITORY)}: {match.group()}")
    assert wrong == []


def test_links_between_pages_lead_somewhere():
    wrong = []
    for path in PAGES:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text(encoding="utf-8")):
            if "://" not in target and not (path.parent / target).exists():
                wrong.append(f"{path.name}: {target}")
    assert wrong == []
