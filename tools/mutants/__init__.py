"""The mutation check: break the source on purpose, one small mistake at a time, and see which test notices."""
