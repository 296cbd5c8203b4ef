"""CUDA C as text: kernels from Loops, and the steps of a program as data for who launches them."""
