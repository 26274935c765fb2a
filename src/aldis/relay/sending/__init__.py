"""From ``send`` to a row in the caller's transaction."""
