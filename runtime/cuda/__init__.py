"""Calling compiled code on a GPU: what `function.py` and its like are for a CPU, over PyCUDA."""
