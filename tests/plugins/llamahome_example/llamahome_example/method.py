"""The method `weighted`: fine-tuning on likelihood, scaled by method.beta. Needs no torch."""

from llamahome_tui.training.methods import Method, PluggedMethod

weighted = PluggedMethod(
    Method(rows="rows", keys=("beta",), metrics=("eval_loss",)),
    objective="llamahome_example.objective:objective",
)
