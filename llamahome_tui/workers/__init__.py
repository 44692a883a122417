"""The other children that need torch, and the operations that start them."""
