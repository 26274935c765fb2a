"""The engine: signals, who is connected, and sends. It needs the standard library alone."""
