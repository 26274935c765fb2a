"""What the Flask and the Quart extension share. Nothing here imports a web framework."""
