"""The Circuits page: asking for circuits, drawing them, and what can be done with a node."""
