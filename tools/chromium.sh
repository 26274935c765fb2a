#!/bin/sh
# Installs Debian's Chromium, which the tests of the live page run in, where that is missing and allowed.
# Where it is not, this says why and succeeds: those tests are then skipped.
set -u

if command -v chromium >/dev/null; then
    exit 0
fi

if ! command -v apt-get >/dev/null; then
    echo "chromium.sh: there is no chromium, and no apt-get to install it with. The browser tests will be skipped." >&2
    exit 0
fi

if [ "$(id -u)" -ne 0 ]; then
    echo "chromium.sh: there is no chromium, and only root may install it: apt-get install chromium. The browser tests will be skipped." >&2
    exit 0
fi

echo "chromium.sh: installing chromium with apt-get."

if ! (apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends chromium) >/dev/null; then
    echo "chromium.sh: apt-get could not install chromium. The browser tests will be skipped." >&2
fi

exit 0
