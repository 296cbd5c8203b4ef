"""The engine of named rewrite rules, and the rules of `simplify`."""
