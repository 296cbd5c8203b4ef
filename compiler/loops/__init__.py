"""From a Kernel and its Schedule to Loops: what `apply_schedules` is made of."""
