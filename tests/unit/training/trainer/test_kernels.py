"""Faster kernels are taken where they compute the same model, and dropped with a reason where they do not."""

from __future__ import annotations

import random
import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")

from llamahome_tui.errors import SpecError  # noqa: E402
from llamahome_tui.training import kernels as named  # noqa: E402
from llamahome_tui.training.shape import Spec, Training  # noqa: E402
from llamahome_tui.training.trainer import kernels, proof  # noqa: E402
from llamahome_tui.training.trainer.batches import MicroBatch  # noqa: E402
from llamahome_tui.training.trainer.loss import Reader, reader  # noqa: E402
from llamahome_tui.training.trainer.model import Trainee  # noqa: E402
from tests.tinymodel import write_model  # noqa: E402
from tests.unit.training.trainer import objective_cases as cases  # noqa: E402

pytestmark = pytest.mark.torch

PATCHED = "liger_kernel.transformers.monkey_patch"


class Row:
    def __init__(self, ids: list[int]) -> None:
        self.ids = ids
        self.mask = [1] * len(ids)


class Bench:
    """A tiny learner, the plain way to read it, and what was said of it."""

    def __init__(self, folder: Path) -> None:
        from peft import get_peft_model

        base = cases.load(folder)
        model = get_peft_model(base, cases.config())
        cases.fill(model)
        self.trainee = Trainee(model.train(), base, torch.device("cpu"), "fp32", lora=True, parameters=0)
        self.read: Reader = reader(model, base, hidden=True)
        self.said: list[tuple[str, str]] = []
        self.wanted = self.answer()

    @property
    def batch(self) -> MicroBatch:
        chance = random.Random(0)
        rows = [Row([chance.randrange(5, 100) for _ in range(length)]) for length in (3, 17, 40)]
        return proof.batch_of(rows, [3, 17, 40])

    def answer(self) -> proof.Answer:
        return proof.answer(self.trainee, self.read, self.batch)

    def degraded(self, what: str, why: str) -> None:
        self.said.append((what, why))

    def as_before(self) -> bool:
        now = self.answer()
        same = all(torch.equal(one, self.wanted.gradients[name]) for name, one in now.gradients.items())
        return same and now.loss == self.wanted.loss


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def bench(folder: Path) -> Bench:
    return Bench(folder)


def norm(self: Any, hidden: Any) -> Any:
    """As the model's own, in another order of operations."""
    wide = hidden.float()
    return self.weight * (wide / (wide.square().mean(-1, keepdim=True) + self.variance_epsilon).sqrt())


def wrong_norm(self: Any, hidden: Any) -> Any:
    return 1.01 * norm(self, hidden)


def wrong_gradient(self: Any, hidden: Any) -> Any:
    """The right values with a gradient that is 5% too large, in some places only."""
    right = norm(self, hidden)
    more = 0.05 * right[..., :4]
    return torch.cat([right[..., :4] + more - more.detach(), right[..., 4:]], -1)


def broken(self: Any, hidden: Any) -> Any:
    raise RuntimeError("no kernel image is available for execution\non the device")


def install(monkeypatch: pytest.MonkeyPatch, forward: Callable[..., Any], kinds: tuple[str, ...] = ("llama",)) -> None:
    """A liger that patches as the real one does: instances, and names in the file they come from."""
    package, patches = ModuleType("liger_kernel.transformers"), ModuleType(PATCHED)

    def apply(model: Any, **options: Any) -> None:
        assert options == {"cross_entropy": False, "fused_linear_cross_entropy": False}
        home = sys.modules[type(model).__module__]
        rotate = home.apply_rotary_pos_emb  # type: ignore[attr-defined]
        home.apply_rotary_pos_emb = lambda *given: rotate(*given)  # type: ignore[attr-defined]
        for layer in model.model.layers:
            for one in (layer.input_layernorm, layer.post_attention_layernorm):
                one.offset = 0.0
                vars(one)["forward"] = forward.__get__(one, type(one))

    package._apply_liger_kernel_to_instance = apply  # type: ignore[attr-defined]
    patches.MODEL_TYPE_TO_APPLY_LIGER_FN = dict.fromkeys(kinds, apply)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "liger_kernel", ModuleType("liger_kernel"))
    monkeypatch.setitem(sys.modules, "liger_kernel.transformers", package)
    monkeypatch.setitem(sys.modules, PATCHED, patches)


def take_liger(bench: Bench, **options: Any) -> bool:
    return kernels.use_liger(bench.trainee, bench.read, bench.batch, bench.wanted, bench.degraded, **options)


def test_a_kernel_that_computes_the_same_is_taken(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers.models.llama import modeling_llama

    monkeypatch.setattr(modeling_llama, "apply_rotary_pos_emb", modeling_llama.apply_rotary_pos_emb)
    install(monkeypatch, norm)
    state = torch.get_rng_state()
    assert take_liger(bench) and not bench.said
    assert "forward" in vars(bench.trainee.base.model.layers[0].input_layernorm)
    assert all(one.grad is None for one in bench.trainee.model.parameters())
    assert torch.equal(torch.get_rng_state(), state) and bench.trainee.model.training


@pytest.mark.parametrize(
    ("forward", "reason"),
    [
        (wrong_norm, "its gradient of "),
        (wrong_gradient, "its gradient of the embeddings is off by 0.0"),
        (broken, "it does not run here: no kernel image is available for execution on the device"),
    ],
)
def test_a_kernel_that_computes_something_else_leaves_no_trace(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, forward: Callable[..., Any], reason: str
) -> None:
    from transformers.models.llama import modeling_llama

    rotate = modeling_llama.apply_rotary_pos_emb
    install(monkeypatch, forward)
    assert not take_liger(bench)
    [(what, why)] = bench.said
    assert what == "kernels none" and why.startswith(f"training.kernels: liger is not used: {reason}")
    assert modeling_llama.apply_rotary_pos_emb is rotate
    assert not {"forward", "offset"} & vars(bench.trainee.base.model.layers[0].input_layernorm).keys()
    assert bench.as_before()


def test_an_architecture_without_kernels_is_said_only_where_they_are_asked_for(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, norm, kinds=("mistral",))
    assert not take_liger(bench, quiet=True) and not bench.said
    assert not take_liger(bench) and bench.said[0][1].endswith("it has none for llama")


def test_attention_is_changed_only_for_one_that_is_equal(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import AttentionInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    def careless(*given: Any, **options: Any) -> Any:
        out, weights = sdpa_attention_forward(*given, **{**options, "is_causal": False})
        return out, weights

    def careful(*given: Any, **options: Any) -> Any:
        return sdpa_attention_forward(*given, **options)

    AttentionInterface.register("careless", careless)
    AttentionInterface.register("careful", careful)
    config = bench.trainee.base.config

    def use(name: str) -> bool:
        return kernels.use_attention(bench.trainee, bench.read, bench.batch, bench.wanted, name, bench.degraded)

    try:
        assert not use("careless") and not use("flash_attention_2")
        assert config._attn_implementation == "sdpa" and bench.as_before()
        (what, why), (_, lacking) = bench.said
        assert what == "attention sdpa" and why.startswith("training.attention: careless is not used: its ")
        assert lacking.startswith("training.attention: flash_attention_2 is not used: it does not run here: ")
        assert use("careful") and config._attn_implementation == "careful"
    finally:
        for name in ("careless", "careful"):
            AttentionInterface._global_mapping.pop(name)


def test_nothing_is_tried_on_a_cpu_unless_it_is_named(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, wrong_norm)

    def never() -> MicroBatch:
        raise AssertionError("a batch is made for nothing")

    kernels.choose(bench.trainee, bench.read, Training(), never, bench.degraded)
    assert not bench.said


@pytest.mark.parametrize(
    ("compiler", "reason"),
    [
        (lambda module, dynamic: lambda **given: module(**given), ""),
        (lambda module, dynamic: lambda **given: wrong(module(**given)), "its loss is off by "),
        (lambda module, dynamic: fails, "it does not run here: no C++ compiler"),
    ],
)
def test_a_compiled_model_is_taken_only_where_it_is_equal(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, compiler: Callable[..., Any], reason: str
) -> None:
    """Compilers that are right, wrong and broken in the place of torch's own, which takes a minute to show either."""
    monkeypatch.setattr(torch, "compile", compiler)
    monkeypatch.setattr(torch._dynamo.config, "suppress_errors", False)
    state = torch.get_rng_state()
    again = partial(reader, bench.trainee.model, bench.trainee.base, hidden=True)
    found = kernels.compiled(bench.trainee, bench.read, again, bench.batch, bench.degraded)
    assert torch.equal(torch.get_rng_state(), state) and bench.as_before()
    assert (found is bench.read) == bool(reason)
    assert [what for what, _ in bench.said] == ["compile false"] * bool(reason)
    assert all(why.startswith(f"training.compile: {reason}") for _, why in bench.said)


@pytest.mark.slow
@pytest.mark.skipif(not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="no C++ compiler is at hand")
def test_the_real_compiler_computes_the_same_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.compile itself, with its C++ kernels: losses and gradients of micro-batches of shapes it has not seen."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "kernels"))
    monkeypatch.setattr(torch._dynamo.config, "suppress_errors", False)
    monkeypatch.setattr("torch._inductor.config.compile_threads", 1)
    torch.compiler.reset()
    bench = Bench(write_model(tmp_path / "model", layers=1))
    again = partial(reader, bench.trainee.model, bench.trainee.base, hidden=True)
    quick = kernels.compiled(bench.trainee, bench.read, again, bench.batch, bench.degraded)
    assert quick is not bench.read and not bench.said
    assert list((tmp_path / "kernels").rglob("*.so"))  # something was compiled
    chance = random.Random(1)
    for lengths in ((5, 9, 30, 31), (11, 24)):
        rows = [Row([chance.randrange(5, 100) for _ in range(length)]) for length in lengths]
        batch = proof.batch_of(rows, lengths)
        mine, plain = (proof.answer(bench.trainee, read, batch) for read in (quick, bench.read))
        assert mine.loss == pytest.approx(plain.loss, rel=1e-5)
        for name, wanted in plain.gradients.items():
            torch.testing.assert_close(mine.gradients[name], wanted, rtol=1e-4, atol=1e-5)
    torch.compiler.reset()


def wrong(out: Any) -> Any:
    out.last_hidden_state = 1.5 * out.last_hidden_state
    return out


def fails(**_given: Any) -> Any:
    raise OSError("no C++ compiler")


def test_what_is_named_and_not_there_is_refused_by_its_key() -> None:
    spec = Spec.from_dict({"model": {"id": "demo"}, "training": {"attention": "flash_attention_2", "kernels": "liger"}})
    assert [need.package for need in named.needs(spec)] == ["flash-attn", "liger-kernel"]
    with pytest.raises(SpecError, match=r"training\.attention: flash_attention_2 needs the package flash-attn"):
        named.refuse_lacking(list(named.needs(spec)))
    with pytest.raises(SpecError, match=r"training\.attention: flash_attention_2 is for GPUs"):
        named.refuse_device(spec, cpu=True)
    named.refuse_device(spec, cpu=False)
    plain = Spec.from_dict({"model": {"id": "demo"}, "training": {"attention": "eager"}})
    assert not list(named.needs(plain))
    named.refuse_device(plain, cpu=True)
