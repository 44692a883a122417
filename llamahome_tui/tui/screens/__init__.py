"""One module per screen; screens never import each other."""
