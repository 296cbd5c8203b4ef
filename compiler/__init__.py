"""The compiler: passes from a Graph to machine code."""
