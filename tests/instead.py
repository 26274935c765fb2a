"""A pytest plugin that makes Flask run on Aldis: ``-p instead``. It must be loaded before Flask is imported."""

import aldis

aldis.install_as_blinker()
