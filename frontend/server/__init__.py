"""The language server: what an editor asks about a `.dl` text while it is typed (`dlc lsp`)."""
