"""How kernels are carried out: what `choose_schedules` is made of."""
