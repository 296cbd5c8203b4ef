"""The passes: one file each, its stem the name of the pass."""
