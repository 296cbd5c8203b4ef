"""What `dlc bench` is made of: arguments, measured times, roofs, a table, a trace."""
