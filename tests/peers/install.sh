#!/bin/bash
# Installs what the tests and the benchmark compare pycontain with, from Debian's own packages.
#
#   tests/peers/install.sh            install what is missing (root)
#   tests/peers/install.sh --check    only say what is missing; exit 1 when something is
#
# Safe to run again: with everything present it makes one dpkg query and ends. No service is started: a
# dockerd of the distribution on the developer's machine would change its firewall and cgroups.
set -euo pipefail

# The kernel of the test VM is not here on purpose: installing a kernel runs boot loader hooks.
# tests/vm/build.py downloads and unpacks it without installing.
PEERS=(runc crun podman buildah conmon bubblewrap docker.io containerd docker-registry umoci skopeo)
TOOLS=(busybox-static openssl util-linux uidmap passt slirp4netns iproute2 iptables nftables hyperfine shellcheck libarchive-tools)
# The tests of an ordinary user: he cannot read the Python of a developer, so they run the system's.
PYTHON=(python3 python3-cffi-backend)
# debian-archive-keyring: mmdebstrap needs it on hosts that are not Debian.
# For the C core alone: sanitizers, analyzer and cross compiler; clang only for libFuzzer.
C_TOOLS=(cmake make gcc libc6-dev clang libclang-rt-dev gcc-aarch64-linux-gnu libc6-dev-arm64-cross)
VM=(qemu-system-x86 mmdebstrap debian-archive-keyring e2fsprogs kmod)
PACKAGES=("${PEERS[@]}" "${TOOLS[@]}" "${PYTHON[@]}" "${C_TOOLS[@]}" "${VM[@]}")

POLICY=/usr/sbin/policy-rc.d
POLICY_SAVED=

missing_packages() {
    local name status
    for name in "${PACKAGES[@]}"; do
        # "install ok installed" and nothing else: a removed package keeps its status entry.
        status=$(dpkg-query -W -f '${Status}' "$name" 2>/dev/null) || status=
        [ "$status" = "install ok installed" ] || printf '%s\n' "$name"
    done
}

forbid_services() {
    if [ -e "$POLICY" ] || [ -L "$POLICY" ]; then
        # In the same directory, so that putting it back is one rename.
        POLICY_SAVED=$POLICY.before-pycontain.$$
        mv -T "$POLICY" "$POLICY_SAVED"
    fi
    printf '#!/bin/sh\n# pycontain tests/peers/install.sh: start nothing while packages are installed\nexit 101\n' >"$POLICY"
    chmod 755 "$POLICY"
}

restore_services() {
    if [ -n "$POLICY_SAVED" ]; then
        mv -fT "$POLICY_SAVED" "$POLICY"
    else
        rm -f "$POLICY"
    fi
}

explain_not_root() {
    echo "tests/peers/install.sh: not root, so nothing was installed. Missing: $*" >&2
    echo "Run:  sudo apt-get install --no-install-recommends $*" >&2
    echo "or run this script as root: it also keeps the packages' services from starting." >&2
}

main() {
    local -a missing
    case "${1-}" in
    '' | --check) ;;
    *)
        echo "usage: tests/peers/install.sh [--check]" >&2
        exit 2
        ;;
    esac
    if ! command -v dpkg-query >/dev/null; then
        echo "tests/peers/install.sh: needs Debian or a derivative (no dpkg here); install by hand: ${PACKAGES[*]}" >&2
        exit 1
    fi
    mapfile -t missing < <(missing_packages)
    if [ "${#missing[@]}" -eq 0 ]; then
        echo "peers: all ${#PACKAGES[@]} packages are installed"
        return 0
    fi
    if [ "${1-}" = --check ]; then
        echo "peers: missing: ${missing[*]}"
        exit 1
    fi
    if [ "$(id -u)" -ne 0 ]; then
        explain_not_root "${missing[@]}"
        exit 1
    fi
    trap restore_services EXIT
    forbid_services
    export DEBIAN_FRONTEND=noninteractive
    echo "peers: installing ${missing[*]}"
    # Lists can be absent (containers) or old (404 on a superseded version): refresh once, always.
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends -o Dpkg::Options::=--force-confold "${missing[@]}"
    mapfile -t missing < <(missing_packages)
    if [ "${#missing[@]}" -ne 0 ]; then
        echo "tests/peers/install.sh: still missing after apt-get: ${missing[*]}" >&2
        exit 1
    fi
    echo "peers: all ${#PACKAGES[@]} packages are installed"
}

main "$@"
