"""Peaks by the names that drivers give: the right variant, or none."""

from __future__ import annotations

import pytest

from llamahome_tui.training.peaks import peak_flops


@pytest.mark.parametrize(
    ("name", "precision", "tera"),
    [
        ("NVIDIA H100 80GB HBM3", "bf16", 989.5),
        ("NVIDIA H100 PCIe", "bf16", 756.5),
        ("NVIDIA H100 NVL", "fp16", 835.5),
        ("NVIDIA H200", "bf16", 989.5),
        ("NVIDIA A100-SXM4-80GB", "bf16", 312.0),
        ("NVIDIA A100 80GB PCIe", "fp32", 19.5),
        ("Tesla V100-SXM2-16GB", "fp16", 125.0),
        ("Tesla T4", "fp16", 65.0),
    ],
)
def test_a_device_that_is_known(name: str, precision: str, tera: float) -> None:
    assert peak_flops(name, precision) == tera * 1e12


@pytest.mark.parametrize(
    ("name", "precision"),
    [
        ("Tesla T4", "bf16"),
        ("NVIDIA T400", "fp16"),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", "bf16"),
        ("NVIDIA A1000", "bf16"),
        ("NVIDIA H20", "bf16"),
        ("NVIDIA H200 NVL", "bf16"),
        ("Some other device", "fp32"),
    ],
)
def test_a_device_without_a_figure_has_none(name: str, precision: str) -> None:
    assert peak_flops(name, precision) is None
