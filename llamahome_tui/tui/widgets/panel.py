"""The resource panel below every screen: GPUs, CPU, memory, disk; each value is a narrow cell that skips equal values.

It is given the newest snapshot and never reads a device itself. Three forms: `grid` (all GPUs, compact), `line` (one
line) and `all` (every process).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.widget import Widget

from llamahome_tui.resources.snapshot import Gpu, GpuState, Snapshot
from llamahome_tui.resources.wording import UNKNOWN, degrees, of_total, percent, system_lines, watts
from llamahome_tui.tui.widgets.cells import Value
from llamahome_tui.tui.widgets.lines import Lines
from llamahome_tui.units import human_bytes

MODES = ("grid", "line", "all")
LOOK_EVERY_S = 0.5
BARS_FROM = 100  # columns of the terminal
GIB = 1024**3
_GAUGE = "▁▂▃▄▅▆▇█"
_BAR = 10
_HOT_C, _TOO_HOT_C = 83.0, 90.0
_ID_STAMP = 16  # `YYYYMMDD-HHMMSS-` in front of a run's name

# What a GPU has become in the grid: its label and its values; a MIG instance is a line of its own.
Labelled = tuple[str, Gpu]


class GpuCells(Horizontal):
    """One GPU in the grid: `0 ▇ 87%  61/80G 64°C 312W gsm8k`, with a bar where there is room."""

    def __init__(self) -> None:
        super().__init__()
        parts = ("index", "use", "bar", "memory", "heat", "power", "who")
        self._values = tuple(Value(classes=f"gpu-{part}") for part in parts)

    def compose(self) -> ComposeResult:
        """One cell for each value that changes on its own."""
        yield from self._values

    def show(self, label: str, gpu: Gpu, ascii_only: bool) -> None:
        """Show this GPU; equal values cost nothing."""
        index, use, bar, memory, heat, power, who = self._values
        index.show(label, "strong")
        bars = self.app.size.width >= BARS_FROM
        use.show(_use(gpu, ascii_only or bars), _load_tone(gpu.utilization))
        bar.show(_bar(gpu.utilization, ascii_only), _load_tone(gpu.utilization))
        # Padded here, not aligned by style: the padding would be a piece of its own on its way to the terminal.
        wide, narrow = (9, 7) if bars else (8, 5)
        memory.show(f"{short_memory(gpu):>{wide}}", _full_tone(gpu.memory_used_bytes, gpu.memory_total_bytes))
        heat.show(f"{_plain(degrees(gpu.temperature_c), ascii_only):>{narrow}}", _heat_tone(gpu.temperature_c))
        power.show(f"{watts(gpu.power_w).replace(' ', ''):>{narrow}}", "" if gpu.power_w is not None else "dim")
        who.show(*_who(gpu))


class ResourcePanel(Widget):
    """The panel of one screen. Height follows its form; more GPUs than fit are counted in the last line."""

    DEFAULT_CSS = """
    ResourcePanel { height: auto; layout: vertical; background: $surface; padding: 0 1; }
    ResourcePanel #host { height: 1; }
    ResourcePanel #host Value { width: auto; margin-right: 1; }
    ResourcePanel #host .label { color: $lh-dim; }
    ResourcePanel #host .number { width: 5; text-align: right; margin-right: 2; }
    ResourcePanel #host .amount { min-width: 14; margin-right: 2; }
    ResourcePanel #host #gpu-sum { min-width: 0; margin-right: 2; }
    ResourcePanel #host #note { width: 1fr; margin-right: 0; text-align: right; }
    ResourcePanel #grid { height: auto; }
    ResourcePanel .column { width: 1fr; height: auto; }
    ResourcePanel GpuCells { height: 1; }
    ResourcePanel .gpu-index { width: 2; }
    ResourcePanel.-mig .gpu-index { width: 4; }
    ResourcePanel .gpu-use { width: 5; margin-right: 1; }
    ResourcePanel .gpu-bar { width: 10; margin-right: 1; display: none; }
    ResourcePanel .gpu-memory { width: 8; }
    ResourcePanel .gpu-heat { width: 5; }
    ResourcePanel .gpu-power { width: 5; }
    ResourcePanel .gpu-who { width: 1fr; margin: 0 1; text-wrap: nowrap; text-overflow: ellipsis; }
    ResourcePanel.-bars .gpu-bar { display: block; }
    ResourcePanel.-bars .gpu-memory { width: 9; }
    ResourcePanel.-bars .gpu-power, ResourcePanel.-bars .gpu-heat { width: 7; }
    ResourcePanel.-bars .gpu-who { margin: 0 2; }
    ResourcePanel #more { height: 1; }
    ResourcePanel #all { height: auto; background: $surface; }
    """

    def __init__(self, read: Callable[[], Snapshot | None], mode: Callable[[], str] = lambda: MODES[0]) -> None:
        super().__init__()
        self._read, self._mode = read, mode
        self._seen: Snapshot | None = None
        self._form: tuple[object, ...] = ()
        self._cells: list[GpuCells] = []

    def compose(self) -> ComposeResult:
        """The line of the machine; GPUs are mounted when it is known how many there are."""
        yield Horizontal(id="grid")
        yield Value(id="more", tone="dim")
        yield Lines(id="all")
        with Horizontal(id="host"):
            yield Value(id="gpu-sum", resize=True)
            yield Value("CPU", classes="label")
            yield Value(id="cpu", classes="number")
            yield Value("memory", classes="label")
            yield Value(id="memory", classes="amount", resize=True)
            yield Value("disk", classes="label")
            yield Value(id="disk", classes="amount", resize=True)
            yield Value(id="note", tone="dim")

    def on_mount(self) -> None:
        """Nothing is known yet."""
        self.query_one("#all", Lines).can_focus = False
        for name in ("#grid", "#more", "#all"):
            self.query_one(name).display = False
        self.query_one("#gpu-sum", Value).display = False
        self.query_one("#note", Value).show("reading GPUs")
        self.set_interval(LOOK_EVERY_S, self.look)
        self.look()

    def look(self) -> None:
        """Show the newest snapshot, if it is newer than the one shown and this screen is in view."""
        snapshot = self._read()
        if snapshot is None or (self._form and not self.screen.is_current):
            return
        if snapshot is not self._seen or (self._mode(), self.app.size) != self._form[:2]:
            self._seen = snapshot
            self._show(snapshot, self._mode())

    def _show(self, snapshot: Snapshot, mode: str) -> None:
        ascii_only = self.app.has_class("-ascii")
        gpus = list(_labelled(snapshot.gpus))
        self.set_class(any(gpu.mig for gpu in snapshot.gpus), "-mig")
        columns, rows = grid_shape(len(gpus), self.app.size.width, self.app.size.height)
        fitting = gpus[: columns * rows]
        form = (mode, self.app.size, len(fitting), columns)
        if form != self._form:
            self._form = form
            self._arrange(mode, len(fitting), columns, rows)
        if mode == "grid":
            for cells, (label, gpu) in zip(self._cells, fitting, strict=False):
                cells.show(label, gpu, ascii_only)
        elif mode == "all":
            lines = self.query_one("#all", Lines)
            text = [(line, "") for line in system_lines(snapshot.to_dict())]
            lines.styles.height = max(3, min(len(text), self.app.size.height - 10))
            lines.show(text)
        self._show_host(snapshot, mode, ascii_only)
        self._show_more(snapshot, mode, len(gpus) - len(fitting))

    def _arrange(self, mode: str, count: int, columns: int, rows: int) -> None:
        grid = self.query_one("#grid")
        grid.display = mode == "grid" and count > 0
        self.query_one("#all").display = mode == "all"
        self.query_one("#host").display = mode != "all"
        self.set_class(self.app.size.width >= BARS_FROM, "-bars")
        if mode != "grid":
            return
        grid.remove_children()
        self._cells = [GpuCells() for _ in range(count)]
        grid.mount_all(
            Vertical(*self._cells[column * rows : (column + 1) * rows], classes="column") for column in range(columns)
        )

    def _show_host(self, snapshot: Snapshot, mode: str, ascii_only: bool) -> None:
        summary = self.query_one("#gpu-sum", Value)
        summary.display = mode == "line" and bool(snapshot.gpus)
        if summary.display:
            summary.show(_plain(sum_line(snapshot.gpus), ascii_only))
        cpu, memory = snapshot.cpu, snapshot.memory
        load = None if cpu is None else cpu.percent
        self.query_one("#cpu", Value).show(percent(load), _load_tone(load))
        used, total = (None, None) if memory is None else (memory.used_bytes, memory.total_bytes)
        self.query_one("#memory", Value).show(of_total(used, total), _full_tone(used, total))
        self.query_one("#disk", Value).show(*_disk(snapshot))
        quiet = snapshot.state in (GpuState.ABSENT, GpuState.PENDING)
        self.query_one("#note", Value).show(snapshot.problem or "" if quiet else "")

    def _show_more(self, snapshot: Snapshot, mode: str, left: int) -> None:
        """A line of its own for what is wrong with the driver, else for the GPUs that did not fit."""
        more = self.query_one("#more", Value)
        wrong = snapshot.state in (GpuState.HUNG, GpuState.FAILED)
        more.display = mode != "all" and (wrong or (mode == "grid" and left > 0))
        if wrong:
            more.show(snapshot.problem or "the GPUs cannot be read", "bad")
        else:
            more.show(f"and {left} more: R shows all", "dim")


def grid_shape(count: int, width: int, height: int) -> tuple[int, int]:
    """Columns and rows of the grid for so many GPUs; at most a third of the screen's lines."""
    if not count:
        return 1, 0
    columns = min(count, 4 if width >= 200 else 2 if width >= 76 else 1)
    return columns, max(1, min(-(-count // columns), height // 3 - 1))


def sum_line(gpus: Sequence[Gpu]) -> str:
    """All GPUs in one: how many, mean load, memory, the hottest; `8 GPUs 47% 412/640G 74°C`."""
    loads = [gpu.utilization for gpu in gpus if gpu.utilization is not None]
    used = [gpu.memory_used_bytes for gpu in gpus if gpu.memory_used_bytes is not None]
    total = sum(gpu.memory_total_bytes or 0 for gpu in gpus)
    heat = max((gpu.temperature_c for gpu in gpus if gpu.temperature_c is not None), default=None)
    memory = f"{sum(used) / GIB:.0f}/{total / GIB:.0f}G" if used and total else UNKNOWN
    mean = percent(sum(loads) / len(loads) if loads else None)
    return f"{len(gpus)} GPU{'s' if len(gpus) > 1 else ''} {mean} {memory} {degrees(heat)}"


def short_memory(gpu: Gpu) -> str:
    """`61/80G`, `1.4/8G`, or n/a."""
    if gpu.memory_total_bytes is None:
        return UNKNOWN
    total = gpu.memory_total_bytes / GIB
    if gpu.memory_used_bytes is None:
        return f"{UNKNOWN}/{total:.0f}G"
    used = gpu.memory_used_bytes / GIB
    return f"{used:.0f}/{total:.0f}G" if total >= 10 else f"{used:.1f}/{total:.0f}G"


def _labelled(gpus: Sequence[Gpu]) -> Iterator[Labelled]:
    for gpu in gpus:
        yield str(gpu.index), gpu
        for part in gpu.instances:
            yield f"{gpu.index}:{part.index}", part


def _use(gpu: Gpu, bare: bool) -> str:
    if gpu.utilization is None:
        return f"  {UNKNOWN}"
    step = min(len(_GAUGE) - 1, int(gpu.utilization / 100 * len(_GAUGE)))
    return f"{' ' if bare else _GAUGE[step]}{gpu.utilization:>3.0f}%"


def _bar(value: float | None, ascii_only: bool) -> str:
    if value is None:
        return ""
    full = round(min(100.0, max(0.0, value)) / 100 * _BAR)
    return ("#" if ascii_only else "█") * full + ("." if ascii_only else "░") * (_BAR - full)


def _who(gpu: Gpu) -> tuple[str, str]:
    """Who uses it: runs by name, else users of the processes, else that nobody does."""
    if gpu.problem:
        return gpu.problem.removeprefix("GPU is "), "bad"
    if gpu.mig:
        return "MIG", "dim"
    if gpu.runs:
        more = f" +{len(gpu.runs) - 1}" if len(gpu.runs) > 1 else ""
        return gpu.runs[0][_ID_STAMP:] + more, "accent"
    users = list(dict.fromkeys(process.user or f"pid {process.pid}" for process in gpu.processes))
    return ", ".join(users), "dim"


def _disk(snapshot: Snapshot) -> tuple[str, str]:
    known = [disk for disk in snapshot.disk if disk.free_bytes is not None]
    if not known:
        return UNKNOWN, "dim"
    least = min(known, key=lambda disk: disk.free_bytes or 0)
    total = least.total_bytes or 0
    low = (least.free_bytes or 0) < max(GIB, total // 50)
    return f"{human_bytes(least.free_bytes)} free", "bad" if low else ""


def _load_tone(value: float | None) -> str:
    return "dim" if value is None else "ok" if value >= 1 else ""


def _full_tone(used: int | None, total: int | None) -> str:
    if used is None or not total:
        return "dim"
    return "bad" if used > 0.97 * total else "warn" if used > 0.9 * total else ""


def _heat_tone(value: float | None) -> str:
    return "dim" if value is None else "bad" if value >= _TOO_HOT_C else "warn" if value >= _HOT_C else ""


def _plain(text: str, ascii_only: bool) -> str:
    return text.replace("°", " ") if ascii_only else text
