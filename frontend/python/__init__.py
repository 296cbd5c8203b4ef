"""Programs written in Python: traced functions, models as classes, ops of the user's own."""
