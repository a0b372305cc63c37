#!/usr/bin/env bash
# Installs those of the given Debian packages that are missing. Costs nothing when none is.
set -euo pipefail

say() { printf 'setup: %s\n' "$*" >&2; }

is_installed() {
    [ "$(dpkg-query --show --showformat='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# A server that apt installs is for the tests to start, not for the machine.
forbid_service_starts() {
    local policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod +x "$policy"
        trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    fi
}

if ! command -v dpkg-query >/dev/null; then
    say "this is no Debian system: what these packages hold must be there already: $*"
    exit 0
fi

missing=()
for package in "$@"; do
    is_installed "$package" || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" != 0 ]; then
    say "missing Debian packages: ${missing[*]}"
    say "install them with: sudo apt-get install --no-install-recommends ${missing[*]}"
    say "going on without them: what needs them will be skipped or fail"
    exit 0
fi

say "installing Debian packages: ${missing[*]}"
mkdir -p build
log=build/apt.log
forbid_service_starts
export DEBIAN_FRONTEND=noninteractive
if ! { apt-get update && apt-get install --yes --no-install-recommends "${missing[@]}"; } >"$log" 2>&1 </dev/null; then
    tail -n 15 "$log" >&2
    say "apt-get failed (all of its output: $log). Mend it, or install by hand: ${missing[*]}"
    exit 1
fi
