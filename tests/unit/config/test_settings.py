"""Settings: the order of their layers, the origin of each value, and all mistakes at once."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import pytest

from llamahome_tui.config.places import Places
from llamahome_tui.config.settings import SCHEMA, VARIABLES, Origin, Settings, environment, load_settings
from llamahome_tui.errors import ConfigError, NotFoundError


@pytest.fixture
def places(tmp_path: Path) -> Places:
    found = Places.from_environ({"LLAMAHOME_HOME": str(tmp_path / "home")})
    found.ensure()
    return found


def test_defaults(places: Places, tmp_path: Path) -> None:
    settings = load_settings(places, {}, tmp_path)
    assert settings.ui.theme == "dark"
    assert settings.general.environment == "production"
    assert settings.logs.level == "info"
    assert all(settings.origin(key) is Origin.DEFAULT for key in SCHEMA)


def test_order_and_origins(places: Places, tmp_path: Path) -> None:
    key, variable = "ui.theme", "LLAMAHOME_UI_THEME"
    places.config_file.write_text('# mine\n[ui]\ntheme = "file"\n')
    assert _value(load_settings(places, {}, tmp_path), key) == ("file", Origin.FILE, f"{places.config_file}:3")
    (tmp_path / ".env").write_text(f"\n{variable}=dotenv\n")
    assert _value(load_settings(places, {}, tmp_path), key) == ("dotenv", Origin.ENV_FILE, f"{tmp_path}/.env:2")
    assert _value(load_settings(places, {}, tmp_path, use_env_file=False), key)[1] is Origin.FILE
    environ = {variable: "env"}
    assert _value(load_settings(places, environ, tmp_path), key) == ("env", Origin.ENVIRONMENT, variable)
    settings = load_settings(places, environ, tmp_path, {key: "option", "logs.level": None})
    assert _value(settings, key) == ("option", Origin.OPTION, "the command line")


def test_a_completed_environment_keeps_the_files_origin(places: Places, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("LLAMAHOME_CACHE_SIZE=12\nHF_HOME=/hf\nHF_ENDPOINT=http://evil\n")
    full = environment({"HOME": "/h"}, tmp_path)
    assert full == {"HOME": "/h", "LLAMAHOME_CACHE_SIZE": "12", "HF_HOME": "/hf"}
    settings, _ = load_settings(places, full, tmp_path, lenient=True)
    assert (settings.cache.size_mib, settings.origin("cache.size_mib")) == (12, Origin.ENV_FILE)


def test_all_mistakes_at_once(places: Places, tmp_path: Path) -> None:
    places.config_file.write_text('[ui]\nthme = "x"\n[logs]\nkeep = -1\nlevel = "warn"\n[nothing]\nat = 1\n')
    (tmp_path / ".env").write_text("LLAMAHOME_CACHE_SIZ=1\nnonsense\n")
    with pytest.raises(ConfigError) as error:
        load_settings(places, {"LLAMAHOME_RESOURCES_INTERVAL_S": "fast"}, tmp_path)
    wrong = error.value.data["errors"]
    file = str(places.config_file)
    assert error.value.exit == 3
    assert {(one["file"], one["line"], one["key"], one["nearest"]) for one in wrong} == {
        (file, 2, "ui.thme", "ui.theme"),
        (file, 4, "logs.keep", ""),
        (file, 5, "logs.level", ""),
        (file, 7, "nothing.at", ""),
        (f"{tmp_path}/.env", 1, "LLAMAHOME_CACHE_SIZ", "LLAMAHOME_CACHE_SIZE"),
        (f"{tmp_path}/.env", 2, "", ""),
        ("environment", 0, "LLAMAHOME_RESOURCES_INTERVAL_S", ""),
    }
    assert f"{file}:2: ui.thme" in error.value.message
    assert 'did you mean "warning"?' in error.value.message


def test_lenient_keeps_what_is_right(places: Places, tmp_path: Path) -> None:
    places.config_file.write_text("[ui]\ntheme = 3\n[logs]\nkeep = 9\n")
    settings, mistakes = load_settings(places, {}, tmp_path, lenient=True)
    assert (settings.ui.theme, settings.logs.keep) == ("dark", 9)
    assert [mistake.key for mistake in mistakes] == ["ui.theme"]
    places.config_file.write_text("not toml")
    settings, mistakes = load_settings(places, {}, tmp_path, lenient=True)
    assert settings.logs.keep == 5
    assert mistakes[0].line == 1


def test_environment_and_cache_size_have_an_effect(places: Places, tmp_path: Path) -> None:
    settings = load_settings(places, {"LLAMAHOME_ENV": "development", "LLAMAHOME_CACHE_SIZE": "7"}, tmp_path)
    assert (settings.logs.level, settings.logs.tracebacks, settings.cache.size_mib) == ("debug", True, 7)
    settings = load_settings(places, {"LLAMAHOME_ENV": "development", "LLAMAHOME_LOGS_LEVEL": "error"}, tmp_path)
    assert settings.logs.level == "error"


@pytest.mark.parametrize("name", ["LLAMAHOME_LAUNCH_PYTHON", "LLAMAHOME_NOTIFY_ON_END"])
def test_a_folders_env_file_starts_no_programs(places: Places, tmp_path: Path, name: str) -> None:
    (tmp_path / ".env").write_text(f"{name}=http://evil\n")
    with pytest.raises(ConfigError, match=r"not taken from a \.env file"):
        load_settings(places, {}, tmp_path)
    assert name not in environment({}, tmp_path)


def test_every_setting_has_a_variable() -> None:
    assert set(VARIABLES.values()) == set(SCHEMA)


def test_unknown_variables_warn_and_empty_ones_are_unset(places: Places, tmp_path: Path) -> None:
    settings = load_settings(places, {"LLAMAHOME_THEME": "x", "LLAMAHOME_UI_THEME": "", "LLAMAHOME_RUN": "r"}, tmp_path)
    assert len(settings.warnings) == 1
    assert "LLAMAHOME_UI_THEME" in settings.warnings[0]
    assert settings.ui.theme == "dark"


def test_get_names_the_nearest_key() -> None:
    assert Settings().get("ui.theme") == "dark"
    with pytest.raises(NotFoundError) as error:
        Settings().get("ui.them")
    assert error.value.data["nearest"] == "ui.theme"
    assert error.value.exit == 4


@pytest.mark.performance
def test_loading_is_cheap(places: Places, tmp_path: Path) -> None:
    import tomllib

    text = "".join(f"[{table}]\n" for table in ("logs",)) + "keep = 3\n# more\n" * 1
    places.config_file.write_text(text)
    ours, floor = [], []
    for _ in range(30):
        start = time.perf_counter()
        load_settings(places, {}, tmp_path)
        middle = time.perf_counter()
        tomllib.loads(places.config_file.read_text())
        ours.append(middle - start)
        floor.append(time.perf_counter() - middle)
    print(f"settings: {statistics.median(ours) * 1e3:.2f} ms, bare tomllib {statistics.median(floor) * 1e3:.2f} ms")
    assert statistics.median(ours) < statistics.median(floor) * 60


def _value(settings: Settings, key: str) -> tuple[object, Origin, str]:
    return settings.get(key), settings.origin(key), settings.places_of.get(key, "")


def test_a_home_that_an_env_file_names_starts_no_programs(places: Places, tmp_path: Path) -> None:
    places.config_file.write_text('[launch]\npython = "/evil"\n[notify]\non_end = "evil"\n[logs]\nkeep = 2\n')
    (tmp_path / ".env").write_text(f"LLAMAHOME_HOME={places.config.parent}\nLLAMAHOME_PROGRESS_FD=3\n")
    settings, mistakes = load_settings(places, environment({}, tmp_path), tmp_path, lenient=True)
    assert (settings.launch.python, settings.notify.on_end, settings.logs.keep) == ("", "", 2)
    assert [mistake.key for mistake in mistakes] == ["LLAMAHOME_PROGRESS_FD", "launch.python", "notify.on_end"]
    own = {"LLAMAHOME_HOME": "/elsewhere"}
    assert load_settings(places, own, tmp_path, lenient=True)[0].launch.python == "/evil"
    assert "LLAMAHOME_PROGRESS_FD" not in environment({}, tmp_path)
