"""The common parts of ``flask signals``, ``flask relay`` and ``python -m aldis``."""
