"""Log files: the sinks that write them and the reader of very large ones."""
