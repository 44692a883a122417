"""The embedded model, its data set and the operation that shows a real fine-tune."""
