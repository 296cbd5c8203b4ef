"""From groups to the steps of a program: memory, new values of variables, calls, loops, branches."""
