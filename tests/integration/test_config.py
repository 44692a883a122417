"""Configuration through the real command: origins, every mistake at once, and changes that keep comments."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

from tests.conftest import RunCli

ASCII = {"LLAMAHOME_UI_ASCII": "true"}


def rows(run_cli: RunCli, *words: str) -> dict[str, dict[str, object]]:
    return {row["key"]: row for row in run_cli("config", "show", *words, "--json").data["settings"]}


def test_show_names_each_values_origin(run_cli: RunCli, home: Path) -> None:
    work = Path.cwd()
    (home / "config").mkdir()
    (home / "config" / "config.toml").write_text('[ui]\ntheme = "light"\n[logs]\nkeep = 3\n')
    (work / ".env").write_text("LLAMAHOME_LOGS_KEEP=4\nLLAMAHOME_CACHE_SIZE=100\n")
    found = {row["key"]: row for row in run_cli("config", "show", "--json", env=ASCII).data["settings"]}
    assert {key: (row["value"], row["origin"]) for key, row in found.items() if row["origin"] != "default"} == {
        "ui.theme": ("light", "file"),
        "logs.keep": (4, ".env"),
        "cache.size_mib": (100, ".env"),
        "ui.ascii": ("true", "environment"),
    }
    assert found["logs.keep"]["where"] == f"{work}/.env:1"
    assert rows(run_cli, "--no-env-file")["logs.keep"]["value"] == 3
    shown = run_cli("config", "show", env=ASCII)
    assert ".env" in shown.out
    assert "environment" in shown.out


def test_set_get_and_validate(run_cli: RunCli, home: Path) -> None:
    file = home / "config" / "config.toml"
    file.parent.mkdir()
    file.write_text("# mine\n[logs] # all of them\nkeep = 3\n")
    done = run_cli("config", "set", "logs.keep", "9", "--json")
    assert done.last["changed"] is True
    assert done.data == {"key": "logs.keep", "value": 9, "file": str(file)}
    assert file.read_text() == "# mine\n[logs] # all of them\nkeep = 9\n"
    assert run_cli("config", "set", "logs.keep", "9", "--json").last["changed"] is False
    assert run_cli("config", "get", "logs.keep", "--json").data["value"] == 9
    refused = run_cli("config", "set", "logs.keep", "many", "--json")
    assert (refused.status, refused.last["code"]) == (3, "config.invalid")
    unknown = run_cli("config", "set", "logs.kep", "1", "--json")
    assert (unknown.status, unknown.last["data"]["nearest"]) == (4, "logs.keep")
    assert tomllib.loads(file.read_text()) == {"logs": {"keep": 9}}
    assert run_cli("config", "validate", "--json").data == {"checked": [str(file)], "errors": []}


def test_a_theme_has_to_be_there(run_cli: RunCli, home: Path) -> None:
    refused = run_cli("config", "set", "ui.theme", "lihgt", "--json")
    assert (refused.status, refused.last["code"]) == (3, "config.invalid")
    assert "light" in refused.last["message"]
    assert not (home / "config" / "config.toml").exists()
    own = home / "config" / "themes"
    own.mkdir(parents=True)
    (own / "mine.toml").write_text((Path(__file__).parents[2] / "themes" / "dark.toml").read_text())
    assert run_cli("config", "set", "ui.theme", "mine").status == 0
    (own / "mine.toml").unlink()
    gone = run_cli("config", "validate", "--json")
    assert (gone.status, gone.last["code"]) == (3, "config.invalid")


def test_f38_broken_files_are_one_error_with_every_mistake(run_cli: RunCli, home: Path) -> None:
    (home / "config").mkdir()
    (home / "config" / "config.toml").write_text('[ui]\nthem = "light"\n[logs]\nkeep = "x"\n')
    (home / "config" / "models.toml").write_text("[models.a]\n")
    Path(".env").write_text("LLAMAHOME_UI_ASCII=maybe\n???\n")
    for words, count in ((("runs", "list"), 4), (("config", "validate"), 5)):
        done = run_cli(*words, "--json")
        assert (done.status, done.last["code"]) == (3, "config.invalid")
        assert len(done.last["data"]["errors"]) == count
        assert all({"file", "line", "key", "reason", "nearest"} == set(one) for one in done.last["data"]["errors"])
    told = run_cli("runs", "list")
    assert told.status == 3
    assert "config.toml:2: ui.them: there is no such setting; the nearest known key is ui.theme" in told.err
    assert told.out == ""
    # What mends it works all the same.
    assert run_cli("config", "path").status == 0
    assert run_cli("config", "set", "logs.keep", "3").status == 0
    assert len(run_cli("config", "validate", "--json").last["data"]["errors"]) == 4


def test_places_follow_the_env_file(run_cli: RunCli, home: Path, tmp_path: Path) -> None:
    Path(".env").write_text(f"HF_HUB_CACHE={tmp_path}/models\n")
    assert run_cli("config", "path", "--json").data["hub_cache"] == f"{tmp_path}/models"


def test_development_logs_more(run_cli: RunCli, home: Path) -> None:
    Path(".env").write_text("LLAMAHOME_ENV=development\n")
    assert run_cli("config", "get", "logs.level", "--json").data["value"] == "debug"


def test_init_prints_a_spec_that_starts(run_cli: RunCli, home: Path) -> None:
    text = run_cli("train", "init").out
    assert tomllib.loads(text)["model"]["id"] == "demo"
    assert run_cli("train", "init", "--json").data["text"] == text
    Path("spec.toml").write_text(text.replace("epochs = 1 ", "epocs = 1 ").replace("r = 16", "r = 0"))
    done = run_cli("train", "start", "spec.toml", "--json")
    assert done.status == 3
    wrong = done.last["data"]["errors"]
    assert [(one["key"], one["nearest"]) for one in wrong] == [("lora.r", ""), ("training.epocs", "training.epochs")]
    assert all(one["line"] for one in wrong)
    assert not list((home / "state" / "runs").glob("*"))


def test_no_secret_of_a_spec_is_shown(run_cli: RunCli, home: Path) -> None:
    Path("s.toml").write_text('[model]\nid = "demo"\n[data]\ntrain = ["demo"]\n[notify]\non_end = "x ${HF_TOKEN}"\n')
    done = run_cli("train", "start", "s.toml", "--json", env={"HF_TOKEN": "hf_canarycanarycanary"})
    assert done.status == 3
    assert "canary" not in done.out + done.err
    everything = b"".join(path.read_bytes() for path in home.rglob("*") if path.is_file())
    assert b"canary" not in everything
    assert json.loads(done.out.splitlines()[-1])["data"]["errors"][0]["key"] == "notify.on_end"
