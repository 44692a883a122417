"""A run that does again what an earlier one did: what it was made from, and why it may not come out the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from llamahome_tui.jobs import control, replay
from llamahome_tui.jobs.reader import tail
from llamahome_tui.jobs.store import Run
from llamahome_tui.training import sameness
from llamahome_tui.training.shape import Spec

KEY: Final = "replay_of"  # of a job: an `Origin`
_KNOWN: Final = ("versions", "threads", "instructions", "host")  # of a `start` event
_ALL: Final = 1 << 30


@dataclass(frozen=True, slots=True)
class Origin:
    """The run that is replayed, as it was when the replay was made.

    `surroundings` are those of its first attempt, `data` the sha256 of each file its rows depended on, `doubts` what
    stands in the way of the same course whatever the replay finds.
    """

    run: str
    created_at: str  # a template may write that day into prompts
    surroundings: Mapping[str, Any]
    data: Mapping[str, str]
    doubts: tuple[str, ...]

    @classmethod
    def of(cls, job: Mapping[str, Any]) -> Origin | None:
        """What a job was replayed from; None where it was not."""
        found = job.get(KEY)
        if not isinstance(found, dict):
            return None
        return cls(
            str(found["run"]), str(found["created_at"]), found["surroundings"], found["data"], tuple(found["doubts"])
        )

    def to_dict(self) -> dict[str, Any]:
        """For a job."""
        return asdict(self)

    def differences(self, now: Mapping[str, Any], spec: Spec) -> list[str]:
        """Each reason, as a phrase, why the replay is not that run again; `now` may be a part of the surroundings.

        Data files are read, for their sha256.
        """
        found = [*self.doubts]
        if self.surroundings:
            found += sameness.differences(self.surroundings, now, spec.to_dict(), spec)
        if changed := sameness.changed_files(self.data):
            found.append(f"data changed: {', '.join(changed)}")
        if self.data and (added := sameness.new_files(self.data, spec.data.train)):
            found.append(f"data added: {', '.join(added)}")
        return found


def origin_of(run: Run) -> Origin:
    """A run as the origin of a replay of it. Raises ConfigError when its job can't be read."""
    starts = tail(run.events_path, _ALL, {"start"})
    phases = tail(run.events_path, _ALL, {"phase"})
    data: Mapping[str, Any] = next((one["data"] for one in reversed(phases) if isinstance(one.get("data"), dict)), {})
    first = starts[0] if starts else {}
    surroundings: dict[str, Any] = {name: first[name] for name in _KNOWN if name in first}
    devices = first.get("devices")
    if isinstance(devices, list) and devices:
        surroundings |= {"device": devices[0], "ranks": len(devices)}
    earlier = Origin.of(run.job)
    return Origin(
        run=run.id,
        created_at=earlier.created_at if earlier is not None else str(run.job["created_at"]),
        surroundings=surroundings,
        data={**_hashes(data.get("files")), **_hashes(data.get("decided_by"))},
        doubts=tuple(_doubts(run, starts)),
    )


def _doubts(run: Run, starts: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What happened in a run that its replay does not do again."""
    changes = replay.changed_by_resumes(run)
    for start in starts:
        begun, attempt = start.get("from_step"), start.get("attempt")
        if start is starts[0] and begun:
            yield f"it began at step {begun}, with a checkpoint from elsewhere"
        if not isinstance(attempt, int):
            continue
        changed = [key for key in changes.get(attempt, {}) if begun and key != replay.RATE and sameness.moves(key)]
        if changed:
            yield f"{', '.join(changed)} changed after its step {begun}, and here holds from the beginning"
        rate = changes.get(attempt, {}).get(replay.RATE)
        if rate is not None and control.rate_of(rate) is None:
            yield f"its {replay.RATE} became {rate!r} after step {begun}, which a replay can't set"
        # Keys that changed are told above; everything else that an attempt found is not undone by a replay.
        found = [one for one in str(start.get("reason") or "").split("; ") if one and not one.endswith(" changed")]
        if start is not starts[0] and start.get("exact") is False and found:
            yield f"its attempt {attempt} was not exact itself: {'; '.join(found)}"
    degraded = tail(run.events_path, _ALL, {"degrade"})
    if any(str(one.get("what")).startswith(sameness.SPLIT) for one in degraded):
        yield "memory ran out in it, and may not at the same place again"


def _hashes(value: Any) -> dict[str, str]:
    return {str(name): str(digest) for name, digest in value.items()} if isinstance(value, dict) else {}
