"""The numbers of the examples, held against computations in NumPy that share nothing with dlc."""
