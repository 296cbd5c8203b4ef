"""From a Graph to machine code: passes, the order in which they run, and the one runner of them."""
