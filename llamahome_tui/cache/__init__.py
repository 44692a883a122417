"""What takes disk, by category; measuring never changes anything."""
