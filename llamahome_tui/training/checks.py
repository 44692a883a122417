"""What must be true before a run exists: interpreter, model, rows, devices and disk; what starts can also train."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from llamahome_tui.errors import ConfigError, LlamaHomeError, ModelError, ResourceError
from llamahome_tui.training.shape import Spec

if TYPE_CHECKING:
    from llamahome_tui.context import Context
    from llamahome_tui.models.locate import Located

NEEDED: Final = ("torch", "transformers", "peft", "accelerate", "safetensors", "tokenizers", "jinja2", "numpy")
_ASK: Final = (
    "import importlib.util as u, sys; old = sys.version_info < (3, 11); "
    "print(*['python>=3.11'] * old, *[n for n in sys.argv[1:] if u.find_spec(n) is None])"
)
_ASK_S: Final = 20.0
_PACKAGES: Final = frozenset({"model.quantization", "training.optimizer", "launch.python"})
_ON_DEVICE: Final = frozenset({"training.precision", "training.attention", "training.kernels", "launch.devices"})
_ROOM: Final = 16 << 20  # bytes for journals, logs and prepared rows of any run


@dataclass(frozen=True, slots=True)
class Checked:
    """A spec that can start, its model, the rows to train on where none is dropped, and the devices it may have."""

    spec: Spec
    located: Located
    rows: int
    candidates: tuple[str, ...]


def check(context: Context, spec: Spec) -> Checked:
    """The spec with its model pinned (run ids for names and `latest`, commits for branches), proved to be startable.

    Raises ConfigError `launch.no_torch`, NotFoundError, ModelError, IntegrityError, DataError or ResourceError; what
    is cheap to see is looked at first. Nothing is made or changed.
    """
    from llamahome_tui.data.prepare import preflight
    from llamahome_tui.jobs import devices
    from llamahome_tui.jobs.store import RunStore
    from llamahome_tui.training import weights
    from llamahome_tui.training.sinks.known import has_packages

    store = RunStore(context.places)
    store.prepare()
    python = python_of(context, spec)
    has_libraries(python, weights.needs_bitsandbytes(spec))
    has_packages(spec.report.to, partial(_lacking, python), python)
    has_kernels(python, spec)
    located = locate_model(context, spec, store)
    claim = devices.claim(plain_devices(spec), "train", context.environ, shared=spec.launch.strategy == "ddp")
    weights.check(spec, located, cpu=claim.candidates == (devices.CPU,))
    rows = preflight(spec, located.path)
    if spec.data.long != "split" and not spec.data.weights:  # which make more rows of fewer
        weights.refuse_small_data(spec, rows)
    has_room(context, spec, located)
    has_mirror(context, spec)
    return Checked(pinned(spec, located), located, rows, claim.candidates)


def check_changes(context: Context, spec: Spec, changed: Collection[str]) -> None:
    """Raises what `check` would for the keys that a resume changes, before they are written into the run.

    Only for what is cheap to see; rows and weights are looked at by the attempt itself.
    """
    from llamahome_tui.jobs import devices
    from llamahome_tui.training import kernels, weights
    from llamahome_tui.training.sinks.known import has_packages

    python = python_of(context, spec)
    if not _PACKAGES.isdisjoint(changed):
        has_libraries(python, weights.needs_bitsandbytes(spec))
    if "report.to" in changed:
        has_packages(spec.report.to, partial(_lacking, python), python)
    if not _ON_DEVICE.isdisjoint(changed):
        has_kernels(python, spec)
        claim = devices.claim(plain_devices(spec), "train", context.environ, shared=spec.launch.strategy == "ddp")
        cpu = claim.candidates == (devices.CPU,)
        weights.refuse_precision(spec, cpu=cpu)
        kernels.refuse_device(spec, cpu=cpu)
    if "checkpoint.mirror" in changed:
        has_mirror(context, spec)


def python_of(context: Context, spec: Spec) -> str:
    """The interpreter that the trainer will run in; "" is this one."""
    return spec.launch.python or context.settings.launch.python


def plain_devices(spec: Spec) -> object:
    """`[launch] devices` as plain JSON."""
    chosen = spec.launch.devices
    return list(chosen) if isinstance(chosen, tuple) else chosen


def has_libraries(python: str, bitsandbytes: str = "") -> None:
    """Raises ConfigError when the interpreter has no torch or one of its family.

    `bitsandbytes` is what needs that package, as `key = value`; "" where nothing does.
    """
    needed = [*NEEDED, "bitsandbytes"] if bitsandbytes else NEEDED
    lacking = _lacking(python, needed)
    if _is_this(python):
        where, install = "this installation", "pip install 'llamahome-tui[train]'"
    else:
        where, install = (
            python,
            f"{python} -m pip install torch transformers peft accelerate safetensors tokenizers jinja2",
        )
    if lacking == ["bitsandbytes"]:
        raise ConfigError(
            f"{bitsandbytes} needs bitsandbytes, and {where} does not have it",
            code="launch.no_bitsandbytes",
            hint=f"install it: {install if where == 'this installation' else f'{python} -m pip install bitsandbytes'}",
            data={"missing": lacking, "python": python or sys.executable},
        )
    if lacking:
        raise ConfigError(
            f"training needs {', '.join(lacking)}, and {where} does not have "
            + ("them" if len(lacking) > 1 else "it")
            + "; [launch] python can name another interpreter that has",
            code="launch.no_torch",
            hint=f"install: {install}",
            data={"missing": lacking, "python": python or sys.executable},
        )


def has_kernels(python: str, spec: Spec) -> None:
    """Raises SpecError for a kernel that the spec names and the interpreter has not."""
    from llamahome_tui.training import kernels

    if wanted := list(kernels.needs(spec)):
        missing = _lacking(python, [need.module for need in wanted])
        kernels.refuse_lacking([need for need in wanted if need.module in missing])


def _is_this(python: str) -> bool:
    return not python or Path(python) == Path(sys.executable)


def _lacking(python: str, needed: Sequence[str]) -> list[str]:
    """The needed packages that an interpreter lacks; "" is this one."""
    if _is_this(python):
        return [name for name in needed if importlib.util.find_spec(name) is None]
    return _ask(python, needed)


def _ask(python: str, needed: Sequence[str]) -> list[str]:
    """The needed packages that another interpreter lacks."""
    from llamahome_tui.config.secrets import strip_secrets

    try:
        said = subprocess.run(
            [python, "-c", _ASK, *needed], capture_output=True, timeout=_ASK_S, check=True, text=True,
            env=strip_secrets(os.environ), stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError) as error:
        raise ConfigError(
            f"launch.python: {python} does not run: {error}",
            code="launch.python",
            hint=f"try it: {python} --version",
            data={"python": python},
        ) from None
    return said.stdout.split()


def locate_model(context: Context, spec: Spec, store: object) -> Located:
    """The model's folder, checked; the adapter to start from too. Raises as `models.locate` does."""
    from llamahome_tui.jobs.store import RunStore
    from llamahome_tui.models.locate import locate

    assert isinstance(store, RunStore)
    model = spec.model
    text = model.id if model.revision == "main" or "@" in model.id else f"{model.id}@{model.revision}"
    located = locate(text, context.places, store, folder=context.cwd)
    if model.adapter and not (Path(model.adapter) / "adapter_config.json").is_file():
        raise ModelError(
            f"model.adapter: {model.adapter} is no adapter folder: adapter_config.json is missing",
            code="model.adapter",
            hint=f"look what is there: ls {model.adapter}",
        )
    return located


def pinned(spec: Spec, located: Located) -> Spec:
    """The spec as the run keeps it: `latest` and branches mean something else tomorrow."""
    if located.run is not None:
        return replace(spec, model=replace(spec.model, id=located.run, revision="main"))
    if located.revision is not None:
        return replace(spec, model=replace(spec.model, id=located.id, revision=located.revision))
    if spec.model.id != "demo" and located.id == str(located.path):
        return replace(spec, model=replace(spec.model, id=str(located.path)))
    return spec


def has_mirror(context: Context, spec: Spec) -> None:
    """Raises ConfigError when the mirror is no folder that can be written, or a Hub repo that nothing here can talk to.

    A run would only find out much later. The network is not asked: that comes and goes.
    """
    from llamahome_tui.hub.names import is_hub

    folder = spec.checkpoint.mirror
    if is_hub(folder):
        _can_reach_hub(context, spec)
    elif folder and not (Path(folder).is_dir() and os.access(folder, os.W_OK | os.X_OK)):
        what = "can't be written" if Path(folder).is_dir() else "is no folder"
        raise ConfigError(
            f"checkpoint.mirror: {folder} {what}",
            code="checkpoint.mirror",
            hint=f"mount its disk, or make it: mkdir -p {folder}",
        )


def _can_reach_hub(context: Context, spec: Spec) -> None:
    """Raises ConfigError where huggingface_hub, a token, or an endpoint to send it to is missing."""
    from llamahome_tui.hub.repo import access

    python = python_of(context, spec)
    if _lacking(python, ["huggingface_hub", "httpx2"]):
        raise ConfigError(
            f"checkpoint.mirror: {spec.checkpoint.mirror} needs huggingface_hub 2.4 or later, and "
            f"{python or 'this installation'} does not have it",
            code="checkpoint.mirror",
            hint=f"install it: {python or 'python'} -m pip install -U huggingface_hub",
        )
    try:
        access(context.environ)
    except ConfigError as error:
        raise ConfigError(f"checkpoint.mirror: {error.message}", code="checkpoint.mirror", hint=error.hint) from None


def has_room(context: Context, spec: Spec, located: Located) -> None:
    """Raises ResourceError when the checkpoints that are kept at once would not fit on the runs' disk."""
    from llamahome_tui.training.weights import checkpoint_bytes

    # The best one beside those that are kept, and the one being written.
    needed = _ROOM + checkpoint_bytes(spec, located) * (spec.checkpoint.keep + 2)
    try:
        status = os.statvfs(context.places.runs)
    except OSError as error:
        raise LlamaHomeError(f"{context.places.runs}: {error.strerror}", code="places.unreadable") from error
    free = status.f_bavail * status.f_frsize
    if free < needed:
        from llamahome_tui.units import human_bytes

        raise ResourceError(
            f"{context.places.runs} has {human_bytes(free)} free, and this run needs about {human_bytes(needed)}",
            code="disk.full",
            hint="see what takes space: llamahome --batch cache usage",
            data={"needed_bytes": needed, "free_bytes": free},
        )
