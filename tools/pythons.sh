#!/bin/sh
# Which Pythons there are to test on.
#
#   pythons.sh PYTHON            the versions from 3.11 to 3.13 that are installed, one a line; PYTHON's first
#   pythons.sh PYTHON VERSION    the path of the interpreter of that version
#
# A name on PATH is tried first, then pyenv's folder: its shims are on PATH and fail for versions that are not
# switched on.

version_of() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null; }

find_python() {
    for candidate in "$main" "python$1" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$1".*/bin/python; do
        if [ "$(version_of "$candidate")" = "$1" ]; then
            command -v "$candidate"
            return 0
        fi
    done

    return 1
}

main=$1

if [ -n "$2" ]; then
    find_python "$2"
    exit
fi

first=$(version_of "$main")
echo "$first"

for version in 3.11 3.12 3.13; do
    if [ "$version" != "$first" ] && find_python "$version" >/dev/null; then
        echo "$version"
    fi
done

exit 0
