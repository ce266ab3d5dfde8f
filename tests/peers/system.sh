#!/bin/bash
# The system packages that building pycontain needs. Root: installs what is missing; otherwise says what to ask for.
set -euo pipefail

PYTHON=${PYTHON:-python3}

lacks() {
    command -v cc >/dev/null || echo gcc libc6-dev
    [ -e /usr/include/linux/openat2.h ] || echo linux-libc-dev
    command -v "$PYTHON" >/dev/null || echo python3
    "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null || echo python3-venv
    # the headers of the very Python that builds, wherever it came from
    "$PYTHON" -c 'import os, sysconfig, sys; sys.exit(not os.path.exists(sysconfig.get_paths()["include"] + "/Python.h"))' \
        2>/dev/null || echo python3-dev
    [ -e /usr/lib/"$(uname -m)"-linux-gnu/libseccomp.so.2 ] || [ -e /lib/"$(uname -m)"-linux-gnu/libseccomp.so.2 ] \
        || [ -e /usr/lib64/libseccomp.so.2 ] || echo libseccomp2
}

mapfile -t missing < <(lacks | tr ' ' '\n')
if [ "${#missing[@]}" -eq 0 ]; then
    exit 0
fi
if [ "$(id -u)" -ne 0 ]; then
    echo "make: these system packages are missing, and installing them needs root: ${missing[*]}" >&2
    echo "make: run  sudo apt-get install ${missing[*]}  and try again" >&2
    exit 1
fi
if ! command -v apt-get >/dev/null; then
    echo "make: install by hand (no apt-get here; Debian's names): ${missing[*]}" >&2
    exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}"
