"""Processes killed at random moments: no event lost, the right status, free locks, and the run goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from llamahome_tui.config.places import Places
from llamahome_tui.jobs import spawn
from tests.killing import Campaign, Forge, training_runs

pytestmark = pytest.mark.torch


@pytest.fixture
def forge(environ: dict[str, str]) -> Iterator[Forge]:
    forge = Forge(environ)
    yield forge
    forge.close()


def carry_out(campaign: Campaign, kills: int) -> None:
    while campaign.tally.kills < kills:
        print(campaign.round(), flush=True)
    print(campaign.tally.as_dict())


def test_a_few_kills(forge: Forge, places: Places, tmp_path: Path) -> None:
    carry_out(Campaign(forge.supervise, training_runs(places, tmp_path), seed=20), kills=5)


@pytest.mark.slow
def test_sixty_kills(forge: Forge, places: Places, tmp_path: Path) -> None:
    campaign = Campaign(forge.supervise, training_runs(places, tmp_path), seed=60)
    carry_out(campaign, kills=60)
    assert set(campaign.tally.victims) == {"trainer", "supervisor", "both"}
    assert campaign.tally.records > 1000


@pytest.mark.slow
def test_six_cold_kills(places: Places, environ: dict[str, str], tmp_path: Path) -> None:
    """The same with interpreters that start from nothing, as users' do: kills fall into imports too."""
    campaign = Campaign(
        lambda run: spawn.launch(run, environ), training_runs(places, tmp_path), seed=6, longest_s=12, witnessed=False
    )
    for _ in range(6):
        print(campaign.round(), flush=True)
    assert campaign.tally.kills >= 6
