"""The worker: claims rows, runs receivers, settles the outcomes."""
