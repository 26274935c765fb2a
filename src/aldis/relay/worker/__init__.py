"""The worker: claims rows, runs receivers, and writes the outcomes."""
