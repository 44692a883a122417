"""Names of sinks, and the packages that they need."""

from __future__ import annotations

import pytest

from llamahome_tui.errors import ConfigError
from llamahome_tui.training.sinks.known import BUILT_IN, has_packages, wrong_names


def test_what_llamahome_brings_is_known() -> None:
    assert not list(wrong_names(list(BUILT_IN)))


def test_a_slip_of_the_pen_is_told_the_nearest_name() -> None:
    (reason,) = wrong_names(["tensorbord"])
    assert 'did you mean "tensorboard"?' in reason and "wandb" in reason


def test_a_sink_twice_is_a_mistake() -> None:
    assert list(wrong_names(["wandb", "wandb"])) == ['names "wandb" twice']


def test_a_package_that_is_missing_is_named_with_what_installs_it() -> None:
    with pytest.raises(ConfigError, match=r"report\.to: trackio") as found:
        has_packages(["tensorboard", "trackio"], lambda names: [name for name in names if name == "trackio"])
    assert found.value.exit == 3 and found.value.hint == "install: pip install trackio"
    with pytest.raises(ConfigError) as found:
        has_packages(["wandb"], lambda names: names, "/opt/python")
    assert "/opt/python -m pip install wandb" in found.value.hint
    has_packages([], lambda names: names)
