#!/usr/bin/env bash
# Makes the virtual environment VENV where there is none that works, and installs this project into it.
# usage: venv.sh VENV REQUIREMENT        REQUIREMENT is `.` or `.[dev]`
set -euo pipefail

venv=$1
requirement=$2

say() { printf 'setup: %s\n' "$*" >&2; }

is_usable() {
    "$1" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

find_python() {
    local candidate
    for candidate in /usr/bin/python3 python3; do
        if is_usable "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    say "no Python 3.11 or later that can make virtual environments (/usr/bin/python3 and python3 were tried)."
    say "install one: sudo apt-get install python3 python3-venv"
    return 1
}

if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    python=$(find_python)
    say "making the virtual environment $venv with $("$python" --version)"
    "$python" -m venv --clear "$venv"
fi

say "installing lockflame and what it needs into $venv"
if ! "$venv/bin/python" -m pip install -qq --disable-pip-version-check --editable "$requirement"; then
    say "pip could not install $requirement: its message is above. A package index must be reachable (see pip config)."
    exit 1
fi
# Where PYTHONDONTWRITEBYTECODE is set, Python would compile all of it at each start.
"$venv/bin/python" -m compileall -q lockflame sampler symbolize flame
