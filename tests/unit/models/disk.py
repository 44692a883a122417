"""Model folders and Hugging Face caches made by hand, so that no test needs torch or the network."""

from __future__ import annotations

import json
import struct
from pathlib import Path

COMMIT = "a" * 40
OTHER = "b" * 40


def safetensors(**tensors: tuple[str, list[int], int]) -> bytes:
    """A safetensors file: each tensor is (dtype, shape, bytes)."""
    header, at = {}, 0
    for name, (dtype, shape, size) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    raw = json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + bytes(at)


def weights() -> bytes:
    return safetensors(embed=("BF16", [8, 4], 64), norm=("F32", [4], 16))


def folder(path: Path, **files: bytes | str) -> Path:
    """A sound model folder; `files` replace or add by name (`_` for `.`)."""
    path.mkdir(parents=True)
    content: dict[str, bytes | str] = {
        "config.json": json.dumps({"architectures": ["LlamaForCausalLM"], "max_position_embeddings": 64}),
        "model.safetensors": weights(),
        "tokenizer.json": "{}",
    } | files
    for name, data in content.items():
        (path / name).write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def cached(cache: Path, repo_id: str, commit: str = COMMIT, ref: str | None = "main", shared: str = "") -> Path:
    """A repository as huggingface_hub leaves it: blobs, links to them, a ref. Gives the snapshot folder."""
    repo = cache / ("models--" + repo_id.replace("/", "--"))
    snapshot = repo / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (repo / "blobs").mkdir(exist_ok=True)
    for name, data in (
        ("config.json", json.dumps({"architectures": ["LlamaForCausalLM"], "c": commit}).encode()),
        ("model.safetensors", weights()),
        ("tokenizer.json", b"{}"),
    ):
        blob = repo / "blobs" / (f"{name}-{shared}" if shared and name != "config.json" else f"{name}-{commit}")
        blob.write_bytes(data)
        (snapshot / name).symlink_to(Path("../../blobs") / blob.name)
    if ref is not None:
        (repo / "refs").mkdir(exist_ok=True)
        (repo / "refs" / ref).write_text(commit)
    return snapshot
