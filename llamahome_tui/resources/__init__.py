"""GPU, CPU, memory and disk as frozen snapshots; what a device does not tell is None."""
