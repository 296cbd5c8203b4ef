"""What `differentiate` is made of: what a gradient flows through, and the way back through it."""
