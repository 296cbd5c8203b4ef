"""What a program is: types, dims, graph, ops, kernels, loops, their text forms and checks."""
