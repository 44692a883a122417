"""LlamaHome: get, fit, fine-tune, watch and ship open language models on a GPU box, from one terminal application."""

__version__ = "0.1.0"
