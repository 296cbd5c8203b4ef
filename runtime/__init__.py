"""What is left when the compiler is gone: artifacts, variables, calls, checkpoints."""
