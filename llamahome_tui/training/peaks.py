"""What devices can compute at most, for `mfu`: dense peaks by name and precision; a device that is not here has none.

The figures are those of NVIDIA's data sheets, without sparsity, in TFLOPS. A slice of a device (MIG) has no peak of
its own there, and neither has a CPU: no figure is better than one that is guessed.
"""

from __future__ import annotations

from typing import Final

# What a name has to contain -> peaks. The first that matches counts, so a variant stands before its family.
_PEAKS: Final[tuple[tuple[str, dict[str, float]], ...]] = (
    ("H200 NVL", {"bf16": 835.5, "fp16": 835.5, "tf32": 417.5, "fp32": 60.0}),
    ("H200", {"bf16": 989.5, "fp16": 989.5, "tf32": 494.5, "fp32": 67.0}),
    ("H100 PCIe", {"bf16": 756.0, "fp16": 756.0, "tf32": 378.0, "fp32": 51.0}),
    ("H100 NVL", {"bf16": 835.5, "fp16": 835.5, "tf32": 417.5, "fp32": 60.0}),
    ("H100 80GB HBM3", {"bf16": 989.5, "fp16": 989.5, "tf32": 494.5, "fp32": 67.0}),
    ("A100", {"bf16": 312.0, "fp16": 312.0, "tf32": 156.0, "fp32": 19.5}),
    ("A30", {"bf16": 165.0, "fp16": 165.0, "tf32": 82.0, "fp32": 10.3}),
    ("V100-SXM2", {"fp16": 125.0, "fp32": 15.7}),
    ("V100-PCIE", {"fp16": 112.0, "fp32": 14.0}),
    ("T4", {"fp16": 65.0, "fp32": 8.1}),
)


def peak_flops(name: str, precision: str) -> float | None:
    """Floating-point operations a second at most: of `name` as torch has it, in bf16, fp16, tf32 or fp32."""
    words = name.replace("-", " ").split()
    if "MIG" in words:
        return None
    for known, peaks in _PEAKS:
        wanted = known.replace("-", " ").split()
        if any(words[at : at + len(wanted)] == wanted for at in range(len(words))):
            found = peaks.get(precision)
            return None if found is None else found * 1e12
    return None
