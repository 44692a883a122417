"""The child process with the training loop; the only place of this package that imports torch."""
