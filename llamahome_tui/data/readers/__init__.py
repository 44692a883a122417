"""One module for each kind of file: from bytes to rows, streamed, whatever stands in them."""
