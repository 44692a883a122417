"""The model format `boxed`: a model folder in one file, model.zip."""

from pathlib import Path
from zipfile import ZipFile

from llamahome_tui.models.adapted import ModelFormat


def fits(folder: Path) -> bool:
    return (folder / "model.zip").is_file()


def write(folder: Path, plain: Path) -> None:
    with ZipFile(folder / "model.zip") as box:
        if "config.json" not in box.namelist():
            raise ValueError("model.zip has no config.json")
        for name in box.namelist():
            (plain / Path(name).name).write_bytes(box.read(name))


boxed = ModelFormat(fits=fits, write=write)
