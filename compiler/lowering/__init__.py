"""From groups to the steps of a program: its memory, updates, calls, loops and branches."""
