"""What trainer tests share: one process with torch loaded, and one place for runs, for each module that asks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.forge import Forge
from tests.integration.trainer_runs import Bench


@pytest.fixture(scope="module")
def forge() -> Iterator[Forge]:
    with Forge() as forge:
        yield forge


@pytest.fixture(scope="module")
def bench(forge: Forge, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench.make(forge, tmp_path_factory.mktemp("bench"))
