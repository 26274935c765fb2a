"""The engine: signals, their connections, and sends. It needs only the standard library."""
