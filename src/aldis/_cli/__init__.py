"""What ``flask signals``, ``flask relay`` and ``python -m aldis`` share."""
