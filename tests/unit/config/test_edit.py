"""Writing a key: comments and order survive, the file is never half written, and nothing wrong gets in."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from llamahome_tui.config.edit import set_key
from llamahome_tui.config.models_file import read_models_file
from llamahome_tui.config.places import Places
from llamahome_tui.errors import BusyError, ConfigError, NotFoundError, ResourceError

TEXT = """# my box

[ui]            # looks
theme = "dark"  # at night
ascii = "auto"

# never more
[logs]
keep = 9
"""


@pytest.fixture
def places(tmp_path: Path) -> Places:
    found = Places.from_environ({"LLAMAHOME_HOME": str(tmp_path)})
    found.ensure()
    return found


def test_comments_and_order_survive(places: Places) -> None:
    places.config_file.write_text(TEXT)
    assert set_key(places, "ui.theme", "light") == (places.config_file, "light", True)
    assert places.config_file.read_text() == TEXT.replace('theme = "dark"', 'theme = "light"')
    set_key(places, "cache.size_mib", "100")
    assert places.config_file.read_text().startswith(TEXT.replace('"dark"', '"light"'))
    assert tomllib.loads(places.config_file.read_text())["cache"] == {"size_mib": 100}
    assert stat.S_IMODE(places.config_file.stat().st_mode) == 0o600
    assert set_key(places, "ui.theme", "light")[2] is False
    assert [path.name for path in places.config.iterdir()] == ["config.toml"]


@pytest.mark.parametrize(
    ("key", "text", "error"),
    [
        ("logs.keep", "many", ConfigError),
        ("logs.keep", "-1", ConfigError),
        ("logs.level", "warn", ConfigError),
        ("logs.kep", "1", NotFoundError),
        ("models.x.nothing", "1", NotFoundError),
        ("models.x.path", "relative", ConfigError),
    ],
)
def test_what_would_not_validate_is_refused(places: Places, key: str, text: str, error: type[Exception]) -> None:
    places.config_file.write_text(TEXT)
    with pytest.raises(error):
        set_key(places, key, text)
    assert places.config_file.read_text() == TEXT
    assert not places.models_file.exists()


def test_a_broken_file_can_be_mended_key_by_key(places: Places) -> None:
    places.config_file.write_text("[logs]\nkeep = -1\nlevel = 3\n")
    set_key(places, "logs.keep", "1")
    set_key(places, "logs.level", "error")
    assert tomllib.loads(places.config_file.read_text()) == {"logs": {"keep": 1, "level": "error"}}
    places.config_file.write_text("[logs\n")
    with pytest.raises(ConfigError, match=r"config\.toml:1"):
        set_key(places, "logs.keep", "1")


def test_named_models_are_built_key_by_key(places: Places) -> None:
    set_key(places, "models.llama3.2.id", "meta-llama/Llama-3.2-{version}")
    set_key(places, "models.llama3.2.versions", "1B, 3B")
    set_key(places, "models.llama3.2.default_version", "1B")
    set_key(places, "models.mine.path", "/models/mine")
    models, mistakes = read_models_file(places.models_file)
    assert not mistakes
    assert models["llama3.2"].target() == ("meta-llama/Llama-3.2-1B", False)
    assert models["llama3.2"].target("3B") == ("meta-llama/Llama-3.2-3B", False)
    assert models["llama3.2"].target("7B") is None
    assert models["mine"].target() == ("/models/mine", True)
    with pytest.raises(ConfigError):
        set_key(places, "models.llama3.2.default_version", "7B")


def test_mistakes_in_models_toml(tmp_path: Path) -> None:
    file = tmp_path / "models.toml"
    file.write_text(
        '[model]\na = 1\n[models.a]\npath = "/x"\nid = "y"\n[models.b]\npth = "/x"\n[models.c]\nid = "a/b"\n'
        'formats = ["onnx"]\nversions = ["1"]\n[models.d]\npath = "/d"\n'
    )
    models, mistakes = read_models_file(file)
    assert set(models) == {"d"}
    assert [(one.line, one.key, one.nearest) for one in mistakes] == [
        (1, "model", "models"),
        (3, "models.a", ""),
        (7, "models.b.pth", "path"),
        (10, "models.c.formats", ""),
        (11, "models.c.versions", ""),
    ]


def test_a_link_stays_a_link(places: Places, tmp_path: Path) -> None:
    real = tmp_path / "dotfiles.toml"
    real.write_text(TEXT)
    places.config_file.symlink_to(real)
    set_key(places, "ui.theme", "light")
    assert places.config_file.is_symlink()
    assert 'theme = "light"' in real.read_text()


def test_many_writers_lose_nothing(places: Places) -> None:
    code = (
        "import sys, pathlib\n"
        "from llamahome_tui.config.edit import set_key\n"
        "from llamahome_tui.config.places import Places\n"
        "places = Places.from_environ({'LLAMAHOME_HOME': sys.argv[1]})\n"
        "for n in range(5): set_key(places, f'models.m{sys.argv[2]}x{n}.path', f'/m/{n}')\n"
    )
    writers = [
        subprocess.Popen([sys.executable, "-c", code, str(places.config.parent), str(number)]) for number in range(3)
    ]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    models, mistakes = read_models_file(places.models_file)
    assert (len(models), mistakes) == (15, [])


def test_a_lock_that_is_kept_is_busy(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llamahome_tui.config.edit._WAIT_S", 0.1)
    code = (
        "import sys, time; from pathlib import Path; from llamahome_tui.jobs.locks import RecordLock\n"
        "lock = RecordLock(Path(sys.argv[1])); lock.acquire(); print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(places.config_lock)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(BusyError):
            set_key(places, "ui.theme", "light")
        holder.kill()
    set_key(places, "ui.theme", "light")


def test_a_full_disk_is_exit_5_and_leaves_the_file_as_it_was(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    places.config_file.write_text(TEXT)

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("llamahome_tui.config.edit.os.fsync", full)
    with pytest.raises(ResourceError) as refused:
        set_key(places, "ui.theme", "light")
    assert (refused.value.error_code, refused.value.exit_code) == ("disk.full", 5)
    assert places.config_file.read_text() == TEXT
    assert [path.name for path in places.config.iterdir()] == [places.config_file.name]


def test_a_broken_file_hints_at_a_command_that_works_then(places: Places) -> None:
    places.config_file.write_text("[ui\n")
    with pytest.raises(ConfigError) as refused:
        set_key(places, "ui.theme", "light")
    assert refused.value.hint.endswith("llamahome --batch config validate")
