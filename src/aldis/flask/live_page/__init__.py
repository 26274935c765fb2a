"""The live page of an application in debug mode: its requests and their sends, as they happen."""
