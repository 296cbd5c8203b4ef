"""Everything that makes a Graph, and the driver that ties the parts together."""
