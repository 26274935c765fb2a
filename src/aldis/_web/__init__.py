"""What the Flask and the Quart extension share."""
