"""From syntax trees to Graphs: names, types and shapes are checked, functions expanded."""
