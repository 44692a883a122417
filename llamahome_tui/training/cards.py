"""GPUs that a run can be planned for without having them; figures are the vendor's, and what it does not print is None.

Memory is what the driver reports of a card as it is sold. Peaks are dense TFLOPS (no sparsity), those of 16 bits with
accumulation in 32 bits: from data sheets, and of GeForce cards from NVIDIA's white papers.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import Final

from llamahome_tui.errors import NotFoundError

_NEAREST: Final = 4
_MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Card:
    """A GPU by its usual name. Peaks are operations, bandwidth bytes, a second."""

    name: str
    memory_bytes: int
    bf16: bool
    half_flops: float | None  # in bf16, and in fp16 where there is no bf16
    fp32_flops: float | None
    bandwidth: float | None

    def peak(self, precision: str) -> float | None:
        """Operations a second at most in bf16, fp16 or fp32; None where the card or the sheet has none."""
        if precision == "fp32":
            return self.fp32_flops
        return None if precision == "bf16" and not self.bf16 else self.half_flops


def _card(name: str, mib: int, half: float | None, single: float | None, gb_s: float | None, bf16: bool = True) -> Card:
    def tera(value: float | None) -> float | None:
        return None if value is None else value * 1e12

    return Card(name, mib * _MIB, bf16, tera(half), tera(single), None if gb_s is None else gb_s * 1e9)


CARDS: Final[tuple[Card, ...]] = (
    _card("B200 180GB", 183359, 2250.0, 75.0, 7700.0),
    _card("H200 141GB", 143771, 989.5, 67.0, 4800.0),
    _card("H100 80GB", 81559, 989.5, 67.0, 3350.0),
    _card("H100 PCIe 80GB", 81559, 756.5, 51.0, 2000.0),
    _card("H100 NVL 94GB", 95830, 835.5, 60.0, 3900.0),
    _card("A100 80GB", 81920, 312.0, 19.5, 2039.0),
    _card("A100 40GB", 40960, 312.0, 19.5, 1555.0),
    _card("A40 48GB", 46068, 149.7, 37.4, 696.0),
    _card("A30 24GB", 24576, 165.0, 10.3, 933.0),
    _card("A10 24GB", 23028, 125.0, 31.2, 600.0),
    _card("L40S 48GB", 46068, 362.05, 91.6, 864.0),
    _card("L40 48GB", 46068, 181.05, 90.5, 864.0),
    _card("L4 24GB", 23034, 121.0, 30.3, 300.0),
    _card("V100 32GB", 32768, 125.0, 15.7, 900.0, bf16=False),
    _card("V100 16GB", 16384, 125.0, 15.7, 900.0, bf16=False),
    _card("T4 16GB", 15360, 65.0, 8.1, 320.0, bf16=False),
    _card("RTX 6000 Ada 48GB", 49140, 364.2, 91.1, 960.0),
    _card("RTX A6000 48GB", 49140, 154.8, 38.7, 768.0),
    _card("RTX 5090 32GB", 32607, 209.5, 104.8, 1792.0),
    _card("RTX 5080 16GB", 16303, 112.6, 56.3, 960.0),
    _card("RTX 4090 24GB", 24564, 165.2, 82.6, 1008.0),
    _card("RTX 4080 16GB", 16376, 97.5, 48.7, 716.8),
    _card("RTX 3090 Ti 24GB", 24564, 80.0, 40.0, 1008.0),
    _card("RTX 3090 24GB", 24576, 71.0, 35.6, 936.0),
    _card("RTX 3080 10GB", 10240, 59.5, 29.8, 760.0),
    _card("RTX 2080 Ti 11GB", 11264, 53.8, 13.4, 616.0, bf16=False),
)


def card_of(text: str) -> Card:
    """The card that somebody names: `A100 80GB`, `a100-80gb`, `NVIDIA L4`. Without its memory the first of a family.

    Raises NotFoundError `gpu.not_found` with the nearest names.
    """
    wanted = _words(text)
    found = next((one for one in CARDS if _words(one.name) == wanted), None)
    found = found or next((one for one in CARDS if wanted and _words(one.name)[:-1] == wanted), None)
    found = found or _only("".join(wanted))
    if found is not None:
        return found
    names = {" ".join(_words(one.name)): one.name for one in CARDS}
    nearest = [names[near] for near in difflib.get_close_matches(" ".join(wanted), names, n=_NEAREST, cutoff=0.4)]
    raise NotFoundError(
        f"--gpu: no GPU named {text[:80]!r} is known" + (f"; the nearest: {', '.join(nearest)}" if nearest else ""),
        code="gpu.not_found",
        hint=f"as in: llamahome --batch train plan SPEC --gpu {(nearest or [CARDS[0].name])[0]!r}, "
        "or give its memory: --memory 24GiB",
        data={"nearest": nearest, "known": [one.name for one in CARDS]},
    )


def _only(joined: str) -> Card | None:
    """The one card whose name ends so, written in one word and without its memory: `4090`, `rtx4090`."""
    named = [one for one in CARDS if len(joined) >= 4 and "".join(_words(one.name)[:-1]).endswith(joined)]
    return named[0] if len(named) == 1 else None


def card_here(name: str) -> Card | None:
    """The card behind a driver's name, as `NVIDIA A100-SXM4-80GB`; None where the table has none, or only a slice."""
    words = [word for word in _words(name) if word not in ("sxm", "sxm2", "sxm4", "sxm5", "hbm3", "hbm2e")]
    if "mig" in words:
        return None
    whole = next((one for one in CARDS if _words(one.name) == words), None)
    return whole or next((one for one in CARDS if _words(one.name)[:-1] == words), None)


def _words(text: str) -> list[str]:
    """Lower-case words without the vendor's; a size is one word however it is written."""
    joined = re.sub(r"(\d+)\s*(?:gib|gb|g)\b", r"\1gb", text.lower())
    return [word for word in re.split(r"[\s_-]+", joined) if word not in ("nvidia", "geforce", "tesla", "")]
