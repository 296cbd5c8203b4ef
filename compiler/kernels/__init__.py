"""From groups of nodes to Kernels: reductions seen from their results, proofs about indices."""
