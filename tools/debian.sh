#!/bin/sh
# Installs a program of Debian's that some tests run, where it is missing and allowed: debian.sh PROGRAM WHICH-TESTS
# Where it is not, this says why and succeeds: those tests are then skipped.
set -u

program=$1
tests=$2

# Daemons are where only root looks for programs.
if command -v "$program" >/dev/null || [ -x "/usr/sbin/$program" ]; then
    exit 0
fi

if ! command -v apt-get >/dev/null; then
    echo "debian.sh: there is no $program, and no apt-get to install it with. $tests will be skipped." >&2
    exit 0
fi

if [ "$(id -u)" -ne 0 ]; then
    echo "debian.sh: there is no $program, and only root may install it: apt-get install $program. $tests will be skipped." >&2
    exit 0
fi

echo "debian.sh: installing $program with apt-get."

if ! (apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends "$program") >/dev/null; then
    echo "debian.sh: apt-get could not install $program. $tests will be skipped." >&2
fi

exit 0
