"""What people can do with runs: one module for each kind of thing, each function one operation of the registry."""
