"""The CPU backend: Loops to LLVM IR text to object code."""
