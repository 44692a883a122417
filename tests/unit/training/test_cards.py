"""The table of GPUs: names as people and drivers write them, and what nobody knows."""

from __future__ import annotations

import pytest

from llamahome_tui.errors import NotFoundError, UsageError
from llamahome_tui.training import planned_for
from llamahome_tui.training.cards import CARDS, card_here, card_of
from llamahome_tui.training.peaks import peak_flops


@pytest.mark.parametrize("text", ["A100 80GB", "a100-80gb", "NVIDIA A100 80 GB", "a100", "A100_80GiB"])
def test_a_card_is_found_however_it_is_written(text: str) -> None:
    assert card_of(text).name == "A100 80GB"


@pytest.mark.parametrize("text", ["4090", "rtx4090", "RTX4090"])
def test_a_family_in_one_word_is_the_only_card_of_that_name(text: str) -> None:
    assert card_of(text).name == "RTX 4090 24GB"


@pytest.mark.parametrize(
    ("driver", "name"),
    [
        ("NVIDIA A100-SXM4-40GB", "A100 40GB"),
        ("NVIDIA H100 80GB HBM3", "H100 80GB"),
        ("NVIDIA GeForce RTX 4090", "RTX 4090 24GB"),
        ("Tesla T4", "T4 16GB"),
        ("NVIDIA A100-SXM4-80GB MIG 1g.10gb", None),
        ("Some Other Card", None),
    ],
)
def test_a_drivers_name_is_known(driver: str, name: str | None) -> None:
    found = card_here(driver)
    assert (found.name if found else None) == name


def test_an_unknown_card_names_the_nearest() -> None:
    with pytest.raises(NotFoundError, match="A1000 80GB") as failed:
        card_of("A1000 80GB")
    assert failed.value.exit == 4
    assert failed.value.data["nearest"][0] == "A100 80GB"


def test_the_table_agrees_with_what_mfu_is_held_against() -> None:
    for name, driver in (("H100 80GB", "NVIDIA H100 80GB HBM3"), ("A100 80GB", "A100"), ("A30 24GB", "NVIDIA A30")):
        assert card_of(name).peak("bf16") == peak_flops(driver, "bf16")
    assert card_of("T4").peak("bf16") is None
    assert card_of("T4").peak("fp16") == peak_flops("Tesla T4", "fp16")
    assert len({card.name for card in CARDS}) == len(CARDS)


def test_memory_alone_and_over_a_card() -> None:
    assert planned_for.named(None, None) is None
    alone = planned_for.named(None, 24 << 30)
    assert alone is not None and alone.free_bytes == 24 << 30 and not alone.here
    both = planned_for.named("T4", 8 << 30)
    assert both is not None and both.free_bytes == 8 << 30 and not both.target.bf16
    with pytest.raises(UsageError, match="less than any run needs"):
        planned_for.named(None, 1000)
