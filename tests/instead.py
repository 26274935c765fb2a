"""A pytest plugin that has Flask run on Aldis: ``-p instead``. Loaded before anything imports Flask."""

import aldis

aldis.install_as_blinker()
