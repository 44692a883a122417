"""The packages under tests/plugins, installed as pip does it, and rows and a model in the formats they bring."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

HERE = Path(__file__).resolve().parent / "plugins"
EXAMPLE = HERE / "llamahome_example"
BROKEN = HERE / "llamahome_broken"


def install(package: Path, folder: Path) -> Path:
    """What `pip install` leaves of a package, in a folder of its own."""
    made = folder / "made"
    shutil.copytree(package, folder / "source")  # a build leaves nothing beside the original
    subprocess.run(
        [
            sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index",
            "--disable-pip-version-check", "--target", str(made), str(folder / "source"),
        ],
        check=True,
    )  # fmt: skip
    return made


def write_quiz(path: Path, rows: int = 40) -> Path:
    lines = [{"question": f"{i} + 1:", "choices": [str(i), str(i + 1)], "right": 1} for i in range(rows)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def box(folder: Path, model: Path) -> Path:
    folder.mkdir()
    with ZipFile(folder / "model.zip", "w") as made:
        for file in sorted(model.iterdir()):
            made.write(file, file.name)
    return folder
