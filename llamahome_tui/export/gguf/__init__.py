"""What a GGUF file of a model says about it: families, names, metadata and vocabulary; nothing here needs torch."""
