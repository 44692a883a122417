"""docs/reliability.md names tests that exist, and every test of a fault or threat row is named there."""

from __future__ import annotations

import re
from pathlib import Path

from tests.conftest import REPOSITORY

TESTS = REPOSITORY / "tests"


def functions_of(path: Path) -> set[str]:
    return set(re.findall(r"^(?:async )?def (test_\w+)", path.read_text(), re.MULTILINE))


def test_the_page_and_the_tests_name_each_other() -> None:
    page = (REPOSITORY / "docs" / "reliability.md").read_text()
    named = re.findall(r"`(test_\w+\.py)(?:::(test_\w+))?`", page)
    assert named
    for file, test in named:
        found = list(TESTS.rglob(file))
        assert found, file
        assert not test or any(test in functions_of(path) for path in found), (file, test)
    families = set(re.findall(r"all named `(test_\w+)`", page))
    for file in ("test_faults.py", "test_threats.py"):
        for test in functions_of(TESTS / "integration" / file):
            assert test in page or any(test.startswith(family) for family in families), (
                f"{file}::{test} is not on the page"
            )
