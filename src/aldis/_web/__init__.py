"""The common parts of the Flask and the Quart extension. No module here imports a web framework."""
