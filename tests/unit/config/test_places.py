"""Places follow XDG, LLAMAHOME_HOME and the Hub's variables, and are made for their owner only."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from llamahome_tui.config.places import Places
from llamahome_tui.errors import ConfigError


def test_xdg_defaults() -> None:
    places = Places.from_environ({"HOME": "/home/u"})
    assert places.config_file == Path("/home/u/.config/llamahome/config.toml")
    assert places.runs == Path("/home/u/.local/state/llamahome/runs")
    assert places.prepared == Path("/home/u/.cache/llamahome/prepared")
    assert places.exports == Path("/home/u/.local/share/llamahome/exports")
    assert places.hub_cache == Path("/home/u/.cache/huggingface/hub")


def test_one_home_for_all_of_ours_and_not_for_the_hub() -> None:
    places = Places.from_environ({"HOME": "/home/u", "LLAMAHOME_HOME": "/box", "XDG_STATE_HOME": "/state"})
    assert (places.config, places.state, places.cache, places.data) == tuple(
        Path("/box") / name for name in ("config", "state", "cache", "data")
    )
    assert places.hub_cache == Path("/home/u/.cache/huggingface/hub")


@pytest.mark.parametrize(
    ("variables", "wanted"),
    [
        ({"HF_HUB_CACHE": "/models"}, "/models"),
        ({"HF_HOME": "/hf"}, "/hf/hub"),
        ({"HF_HOME": "~/hf"}, "/home/u/hf/hub"),
        ({"XDG_CACHE_HOME": "/c"}, "/c/huggingface/hub"),
        ({"XDG_CACHE_HOME": "relative"}, "/home/u/.cache/huggingface/hub"),
        ({"HF_HUB_CACHE": "/a", "HF_HOME": "/b"}, "/a"),
    ],
)
def test_hub_cache(variables: dict[str, str], wanted: str) -> None:
    assert Places.from_environ({"HOME": "/home/u", **variables}).hub_cache == Path(wanted)


def test_folders_are_private(tmp_path: Path) -> None:
    places = Places.from_environ({"LLAMAHOME_HOME": str(tmp_path / "a" / "b")})
    places.ensure()
    for folder in (places.state, places.runs, places.locks, places.logs, places.config, tmp_path / "a"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    places.ensure()


def test_a_file_where_a_folder_should_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    with pytest.raises(ConfigError) as error:
        Places.from_environ({"LLAMAHOME_HOME": str(tmp_path)}).ensure()
    assert error.value.error_code == "places.not_writable"
    assert str(tmp_path / "state") in error.value.message
