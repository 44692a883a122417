"""The wheel: what is in it, and that it works in an environment of its own, away from the repository."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY, clean_environ

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """A wheel built from this checkout. Needs no network: the build backend is the one that is installed."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(REPOSITORY)],
        check=True, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    return next(folder.glob("*.whl"))


def test_the_wheel_has_themes_demo_and_nothing_of_the_workshop(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    themes = {Path(n).name for n in names if n.startswith("llamahome_tui/themes/")}
    assert themes == {p.name for p in (REPOSITORY / "themes").glob("*.toml")}
    assert len(themes) >= 3
    for needed in (
        "llamahome_tui/py.typed",
        "llamahome_tui/tui/app.tcss",
        "llamahome_tui/demo/model/model.safetensors",
    ):
        assert needed in names
    assert not [n for n in names if n.startswith(("tests/", "scripts/", "docs/", "themes/"))]
    model = [i for i in zipfile.ZipFile(wheel).infolist() if i.filename.startswith("llamahome_tui/demo/model/")]
    assert sum(i.file_size for i in model) <= 6 << 20


def test_everything_the_package_reads_is_in_the_wheel(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    tracked = subprocess.run(
        ["git", "ls-files", "llamahome_tui"], cwd=REPOSITORY, check=True, capture_output=True, text=True
    ).stdout.split()
    assert [name for name in tracked if name not in names] == []


def test_an_installed_wheel_works(wheel, tmp_path):
    """A clean environment that sees the installed dependencies, but not this repository."""
    place = tmp_path / "venv"
    venv.create(place, with_pip=True, symlinks=True)
    python = place / "bin" / "python"
    site = Path(subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True, capture_output=True, text=True,
    ).stdout.strip())  # fmt: skip
    # A plain path line: .pth files of the other environment (the editable install) are not followed.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--force-reinstall", str(wheel)],
        check=True, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    home = tmp_path / "home"
    env = {k: v for k, v in clean_environ(home).items() if k != "PYTHONPATH"}
    llamahome = place / "bin" / "llamahome"

    def run(*words: str, status: int = 0) -> str:
        done = subprocess.run([llamahome, *words], env=env, cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert done.returncode == status, done.stderr
        return done.stdout

    where = subprocess.run(
        [python, "-c", "import llamahome_tui; print(llamahome_tui.__file__)"],
        env=env, cwd=tmp_path, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    assert where.startswith(str(place))
    assert run("--version").startswith("llamahome ")
    assert json.loads(run("runs", "list", "--json"))["data"] == []
    assert [m["id"] for m in json.loads(run("models", "list", "--json"))["data"]] == ["demo"]
    assert "properties" in run("schema", "spec")
    themes = subprocess.run(
        [python, "-c", "from llamahome_tui.tui import theme; print(len(theme.load(theme.folders()).themes))"],
        env=env, cwd=tmp_path, check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert themes.returncode == 0, themes.stderr
    assert int(themes.stdout) >= 3
