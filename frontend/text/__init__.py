"""From `.dl` text to a syntax tree: the grammar, its tables, newlines, syntax errors."""
