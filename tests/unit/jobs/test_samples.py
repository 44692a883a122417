"""Samples over time: by prompt and step, without what a resume has made void, and bounded."""

from __future__ import annotations

from typing import Any

from llamahome_tui.jobs.samples import TEXTS, Samples


def sample(step: int, text: str, prompt: str = "a") -> dict[str, Any]:
    return {"type": "sample", "step": step, "prompt": prompt, "text": text}


def test_texts_stand_by_prompt_and_step_and_what_a_resume_voids_is_gone() -> None:
    samples = Samples()
    samples.take([sample(0, "x"), sample(0, "y", "b"), sample(10, "lost"), sample(5, "kept")])
    samples.take([{"type": "start", "from_step": 5}, sample(10, "again"), {"type": "metrics", "step": 11}])
    a, b = samples.told()
    assert (a.prompt, a.texts) == ("a", ((0, "x"), (5, "kept"), (10, "again")))
    assert (b.prompt, b.texts) == ("b", ((0, "y"),))


def test_very_many_are_thinned_and_the_first_and_the_newest_stay() -> None:
    samples = Samples()
    samples.take(sample(step, str(step)) for step in range(5 * TEXTS))
    steps = [step for step, _ in samples.told()[0].texts]
    assert len(steps) <= 2 * TEXTS and steps[0] == 0 and steps[-1] == 5 * TEXTS - 1 and steps == sorted(steps)
