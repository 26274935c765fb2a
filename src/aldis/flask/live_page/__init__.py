"""The live page: the requests of an application in debug mode, as they happen."""
