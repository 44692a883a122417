"""Checks of the machine for `system doctor`: each looks at one thing and names the command that helps."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from llamahome_tui.config.places import Places
from llamahome_tui.resources.snapshot import GpuState, Snapshot
from llamahome_tui.text import clean
from llamahome_tui.units import human_bytes

GIB = 1024**3
LOW_DISK = 20 * GIB
PLUGIN_S = 60.0  # for a plug-in to be imported
NO_DISK = 1 * GIB
TRAIN_PACKAGES = ("torch", "transformers", "peft", "accelerate", "safetensors")
_ASK_VERSIONS = (
    "import importlib.metadata as m, json, sys\n"
    "found = {}\n"
    "for name in sys.argv[1:]:\n"
    "    try: found[name] = m.version(name)\n"
    "    except m.PackageNotFoundError: found[name] = None\n"
    "print(json.dumps(found))\n"
)
_LOAD_PLUGIN = (
    "import json, sys\n"
    "sys.path[:] = json.loads(sys.argv[1])\n"
    "from llamahome_tui import errors, plugins\n"
    "try: plugins.listed(plugins.Group(sys.argv[2]))[0][sys.argv[3]].load(); said = ''\n"
    "except errors.ConfigError as error: said = error.message\n"
    "print(); print(json.dumps(said))\n"
)
_ASK_CUDA = "import torch, json; print(json.dumps([torch.cuda.device_count(), torch.version.cuda]))"


class State(StrEnum):
    """What a check found."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor's report; `command` is what helps, empty when nothing is to be done."""

    name: str
    state: State
    message: str
    command: str = ""


@dataclass(frozen=True, slots=True)
class Patient:
    """What the checks look at; everything that depends on the machine comes in here."""

    places: Places
    environ: Mapping[str, str]
    snapshot: Snapshot
    python: str  # the interpreter that trains
    logind: tuple[Path, ...] = (Path("/etc/systemd/logind.conf"), Path("/etc/systemd/logind.conf.d"))


def gpu(patient: Patient) -> Iterator[Finding]:
    """Driver and GPUs."""
    seen = patient.snapshot
    if seen.state is GpuState.ABSENT:
        yield Finding("gpu", State.WARN, f"{seen.problem}; training on the CPU suits small models only", "nvidia-smi")
        return
    if seen.state is not GpuState.OK:
        yield Finding("gpu", State.FAIL, seen.problem or "the GPUs cannot be read", "nvidia-smi")
        return
    names = ", ".join(dict.fromkeys(clean(g.name) for g in seen.gpus if g.name))
    yield Finding("gpu", State.OK, f"{len(seen.gpus)} GPU(s): {names}; driver {clean(seen.driver or 'unknown')}")
    for one in seen.gpus:
        if one.problem:
            yield Finding("gpu", State.FAIL, f"GPU {one.index}: {one.problem}", "sudo dmesg | grep -i xid")


def training_packages(patient: Patient) -> Iterator[Finding]:
    """Whether the interpreter that trains has torch and its family, and whether that torch sees the GPUs."""
    where = "this interpreter" if patient.python == sys.executable else clean(patient.python)
    install = f"{patient.python} -m pip install 'llamahome-tui[train]'"
    found = _ask(patient.python, _ASK_VERSIONS, *TRAIN_PACKAGES, timeout_s=20)
    if not isinstance(found, dict):
        yield Finding("torch", State.FAIL, f"{where} does not run", "llamahome --batch config get launch.python")
        return
    missing = [name for name in TRAIN_PACKAGES if not found.get(name)]
    if missing:
        yield Finding("torch", State.FAIL, f"{where} lacks {', '.join(missing)}: nothing can be trained", install)
        return
    yield Finding("torch", State.OK, ", ".join(f"{name} {found[name]}" for name in TRAIN_PACKAGES) + f" in {where}")
    if patient.snapshot.state is not GpuState.OK:
        return
    cuda = _ask(patient.python, _ASK_CUDA, timeout_s=90)
    if not isinstance(cuda, list):
        yield Finding("cuda", State.FAIL, f"torch of {where} cannot be loaded", install)
    elif cuda[1] is None:
        yield Finding(
            "cuda", State.FAIL, "this torch is the build for CPUs: the GPUs stay unused", install + " --upgrade"
        )
    elif not cuda[0]:
        yield Finding(
            "cuda",
            State.FAIL,
            f"torch (CUDA {cuda[1]}) sees no GPU: CUDA_VISIBLE_DEVICES, or an old driver",
            "nvidia-smi",
        )
    else:
        yield Finding("cuda", State.OK, f"torch sees {cuda[0]} GPU(s) with CUDA {cuda[1]}")


def disk(patient: Patient) -> Iterator[Finding]:
    """Room for models, checkpoints and journals."""
    for one in patient.snapshot.disk:
        path = clean(one.path)
        if one.free_bytes is None:
            yield Finding("disk", State.FAIL, f"{path} ({one.purpose}) does not answer", f"df -h {path}")
            continue
        state = State.FAIL if one.free_bytes < NO_DISK else State.WARN if one.free_bytes < LOW_DISK else State.OK
        command = "" if state is State.OK else "llamahome --batch cache list"
        yield Finding("disk", state, f"{human_bytes(one.free_bytes)} free for {one.purpose} ({path})", command)


def memory(patient: Patient) -> Iterator[Finding]:
    """Main memory, and whether a container cuts it down."""
    seen = patient.snapshot.memory
    if seen is None:
        return
    limited = ", limited by the control group" if seen.limited else ""
    yield Finding(
        "memory", State.OK, f"{human_bytes(seen.available_bytes)} of {human_bytes(seen.total_bytes)} available{limited}"
    )


def state_folder(patient: Patient) -> Iterator[Finding]:
    """Runs, locks and logs must be writable, and nobody else's business."""
    folder = patient.places.state
    path = clean(str(folder))
    problem = _not_writable(folder)
    if problem:
        yield Finding("state", State.FAIL, f"{path}: {problem}", "llamahome --batch config path")
        return
    if not folder.exists():
        yield Finding("state", State.OK, f"{path} is made on first use")
        return
    facts = folder.stat()
    if facts.st_uid != os.getuid():
        yield Finding("state", State.FAIL, f"{path} belongs to another user", f"ls -ld {path}")
    elif stat.S_IMODE(facts.st_mode) & 0o077:
        yield Finding("state", State.WARN, f"{path} can be read by others", f"chmod 700 {path}")
    else:
        yield Finding("state", State.OK, f"{path} is writable and private")


def model_cache(patient: Patient) -> Iterator[Finding]:
    """The Hugging Face cache must be writable, and what others can write there is not to be trusted."""
    folder = patient.places.hub_cache
    path = clean(str(folder))
    problem = _not_writable(folder)
    if problem:
        yield Finding("models", State.WARN, f"{path}: {problem}; no model can be fetched", f"ls -ld {path}")
    elif not folder.exists():
        yield Finding("models", State.OK, f"{path} is made on first use")
    else:
        yield Finding("models", State.OK, f"{path} is writable")
    if folder.exists():
        open_to = _open_to(folder)
        if open_to:
            yield Finding(
                "models",
                State.WARN,
                f"{path} can be written by {open_to}: others may replace weights",
                f"chmod go-w {path}",
            )


def terminal(patient: Patient) -> Iterator[Finding]:
    """What the full-screen application needs of terminal and locale."""
    environ = patient.environ
    locale = environ.get("LC_ALL") or environ.get("LC_CTYPE") or environ.get("LANG") or ""
    if re.search(r"utf-?8", locale, re.IGNORECASE):
        yield Finding("locale", State.OK, f"{clean(locale)}")
    else:
        shown = clean(locale) or "not set"
        yield Finding(
            "locale", State.WARN, f"the locale is {shown}: plots may show as question marks", "export LANG=C.UTF-8"
        )
    term = environ.get("TERM", "")
    if term in {"", "dumb", "unknown"}:
        yield Finding(
            "terminal",
            State.WARN,
            f"TERM is {clean(term) or 'not set'}: use --batch, or set it",
            "export TERM=xterm-256color",
        )
    else:
        yield Finding("terminal", State.OK, f"TERM={clean(term)}, {_colours(term, environ)}")
    if shutil.which("tmux", path=environ.get("PATH")) is None and not environ.get("TMUX"):
        yield Finding("tmux", State.OK, "not installed; runs survive a lost connection without it, a screen does not")
    else:
        yield Finding("tmux", State.OK, "inside tmux" if environ.get("TMUX") else "installed")


def compiled(_: Patient) -> Iterator[Finding]:
    """Without compiled modules the application takes four times as long to start."""
    spec = importlib.util.find_spec("textual")
    origin = Path(spec.origin) if spec and spec.origin else None
    if origin is None:
        yield Finding(
            "modules", State.FAIL, "textual is not installed", f"{sys.executable} -m pip install llamahome-tui"
        )
        return
    if Path(importlib.util.cache_from_source(str(origin))).exists():
        yield Finding("modules", State.OK, "compiled")
    else:
        command = f"{sys.executable} -m compileall -q {clean(str(origin.parent.parent))}"
        yield Finding("modules", State.WARN, "Python modules are not compiled: each start is slow", command)


def logout(patient: Patient) -> Iterator[Finding]:
    """systemd may kill everything a user started when the last session ends."""
    if not _kills_at_logout(patient.logind):
        yield Finding("logout", State.OK, "runs survive the end of your session")
    elif shutil.which("systemd-run", path=patient.environ.get("PATH")):
        yield Finding(
            "logout",
            State.WARN,
            "KillUserProcesses=yes: runs are started in a scope of their own",
            "loginctl enable-linger",
        )
    else:
        yield Finding(
            "logout", State.FAIL, "KillUserProcesses=yes and no systemd-run: logout ends runs", "loginctl enable-linger"
        )


def plug_ins(patient: Patient) -> Iterator[Finding]:
    """What other packages bring, each loaded in a process of its own; no line where there is none."""
    from llamahome_tui import plugins

    for group in plugins.Group:
        found, faults = plugins.listed(group, plugins.own(group))
        for fault in faults:
            yield Finding("plug-ins", State.WARN, clean(fault), "pip list")
        for name, plugin in found.items():
            reason = _broken_plugin(group.value, name, patient.environ)
            if not reason:
                yield Finding("plug-ins", State.OK, clean(f"{name} ({group}, of {plugin.package})"))
                continue
            yield Finding("plug-ins", State.WARN, clean(reason), clean(f"pip show {plugin.package.partition(' ')[0]}"))


CHECKS: tuple[Callable[[Patient], Iterator[Finding]], ...] = (
    gpu, training_packages, memory, disk, state_folder, model_cache, terminal, compiled, logout, plug_ins,
)  # fmt: skip


def _ask(python: str, code: str, *arguments: str, timeout_s: float) -> object:
    """What the other interpreter prints as JSON; None when it fails or takes too long."""
    try:
        # -I: neither this folder nor PYTHONPATH decides what is found there.
        done = subprocess.run(
            [python, "-I", "-c", code, *arguments],
            capture_output=True,
            timeout=timeout_s,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        return json.loads(done.stdout) if done.returncode == 0 else None
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None


def _broken_plugin(group: str, name: str, environ: Mapping[str, str]) -> str:
    """Why a plug-in does not load, "" where it does. Its code runs in a process that knows no secret and may hang."""
    from llamahome_tui.config.secrets import strip_secrets

    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", _LOAD_PLUGIN, json.dumps(sys.path), group, name],
            capture_output=True,
            timeout=PLUGIN_S,
            stdin=subprocess.DEVNULL,
            env=strip_secrets(environ),
            check=False,
        )
        return str(json.loads(done.stdout.splitlines()[-1]))
    except (OSError, ValueError, IndexError, subprocess.TimeoutExpired):
        return f"the plug-in {name} ({group}) ends or holds up the process that loads it"


def _not_writable(folder: Path) -> str:
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        return f"{place} is not a folder"
    return "" if os.access(place, os.W_OK | os.X_OK) else "it cannot be written"


def _open_to(folder: Path) -> str:
    facts = folder.stat()
    mode = facts.st_mode
    # With the sticky bit others may add files but not replace ours.
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        return "everyone"
    return "its group" if mode & stat.S_IWGRP and not _private_group(facts.st_gid, facts.st_uid) else ""


def _private_group(gid: int, uid: int) -> bool:
    """Whether the group has only this user in it, as most distributions make one for each."""
    import grp
    import pwd

    try:
        group, user = grp.getgrgid(gid), pwd.getpwuid(uid).pw_name
    except KeyError:
        return False
    return group.gr_name == user and set(group.gr_mem) <= {user}


def _colours(term: str, environ: Mapping[str, str]) -> str:
    if environ.get("NO_COLOR"):
        return "no colours (NO_COLOR)"
    if environ.get("COLORTERM") in {"truecolor", "24bit"}:
        return "true colour"
    return "256 colours" if "256" in term or term.startswith(("tmux", "screen", "xterm")) else "few colours"


def _kills_at_logout(files: tuple[Path, ...]) -> bool:
    """The last KillUserProcesses= of logind's configuration; its own default is no."""
    value = ""
    for place in files:
        for file in sorted(place.glob("*.conf")) if place.is_dir() else [place]:
            try:
                text = file.read_text(encoding="utf-8", errors="replace")
            except OSError:
                continue
            for match in re.finditer(r"^\s*KillUserProcesses\s*=\s*(\w+)", text, re.MULTILINE):
                value = match[1].lower()
    return value in {"yes", "true", "on", "1"}
