"""What devices can compute at most, for `mfu`: dense peaks by name and precision; a device that is not here has none.

The figures are those of NVIDIA's data sheets in TFLOPS, without sparsity: half of what they print for tensor cores
that can skip zeros. The sheet stands above each device; what could not be confirmed is left out. A slice of a device
(MIG) has no peak of its own there, and neither has a CPU: no figure is better than one that is guessed.
"""

from __future__ import annotations

from typing import Final

# What a name has to contain -> peaks. The first that matches counts, so a variant stands before its family.
_PEAKS: Final[tuple[tuple[str, dict[str, float]], ...]] = (
    # "NVIDIA H200 Tensor Core GPU" (SXM): 1,979 in 16 bits with sparsity. The NVL card computes less.
    ("H200 NVL", {}),
    ("H200", {"bf16": 989.5, "fp16": 989.5}),
    # "NVIDIA H100 Tensor Core GPU": with sparsity 1,979, 1,513 and 1,671 in 16 bits, 989, 756 and 835 in TF32.
    ("H100 PCIe", {"bf16": 756.5, "fp16": 756.5, "tf32": 378.0, "fp32": 51.0}),
    ("H100 NVL", {"bf16": 835.5, "fp16": 835.5, "tf32": 417.5, "fp32": 60.0}),
    ("H100 80GB HBM3", {"bf16": 989.5, "fp16": 989.5, "tf32": 494.5, "fp32": 67.0}),
    # "NVIDIA A100 Tensor Core GPU" (nvidia-a100-datasheet-us-nvidia-1758950-r4), the same for SXM and PCIe.
    ("A100", {"bf16": 312.0, "fp16": 312.0, "tf32": 156.0, "fp32": 19.5}),
    # "NVIDIA A30 Tensor Core GPU" (a30-datasheet).
    ("A30", {"bf16": 165.0, "fp16": 165.0, "tf32": 82.0}),
    # "NVIDIA V100 Tensor Core GPU" (volta-v100-datasheet-update-us-1165301-r5).
    ("V100-SXM2", {"fp16": 125.0, "fp32": 15.7}),
    ("V100-PCIE", {"fp16": 112.0, "fp32": 14.0}),
    # "NVIDIA T4 Tensor Core GPU" (t4-tensor-core-datasheet-951643).
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
