#!/usr/bin/env bash
# Builds the contended program of the demo, profiles it for five seconds, and says where the pictures are.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

out=build/demo
program=$out/thd_contention
source=tests/targets/thd_contention.cpp
target=

end_target() {
    if [ -n "$target" ] && kill -TERM "$target" 2>/dev/null; then
        wait "$target" || true
    fi
    target=
}
trap end_target EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

mkdir -p "$out"
compiler=$(command -v "${CXX:-c++}" || command -v g++) || {
    echo "demo: no C++ compiler. Install one: sudo apt-get install g++" >&2
    exit 1
}
if [ ! -x "$program" ] || [ -n "$(find tests/targets -newer "$program" -name 't*.*')" ]; then
    echo "demo: building $source"
    "$compiler" -std=c++17 -O2 -g -pthread "$source" -o "$program"
fi

"$program" --threads 4 >"$out/thd_contention.log" &
target=$!
for _ in $(seq 100); do
    grep -q '^ready$' "$out/thd_contention.log" && break
    sleep 0.05
done
if ! grep -q '^ready$' "$out/thd_contention.log"; then
    echo "demo: $program did not start: see $out/thd_contention.log" >&2
    exit 1
fi

echo "demo: 4 threads fight for LOCK_thd_query in process $target; profiling them for 5 s"
echo
locks=--locks
if [ "$(id -u)" != 0 ]; then
    locks=--no-locks
    echo "demo: without root only CPU samples are taken: no lock waits"
fi
.venv/bin/lockflame record -p "$target" -d 5 -F 499 "$locks" -o "$out/demo.pb.gz" -o "$out/demo.svg"
end_target
if [ "$locks" = --locks ]; then
    .venv/bin/lockflame flame "$out/demo.pb.gz" --view chain -o "$out/demo-chain.svg"
fi

echo
echo "demo: the program's own counts: $(tail -n 1 "$out/thd_contention.log")"
echo "demo: the flame graph, for any browser:  $PWD/$out/demo.svg"
[ "$locks" = --no-locks ] || echo "demo: who waits for it, and who holds it:  $PWD/$out/demo-chain.svg"
echo "demo: the profile:                       $PWD/$out/demo.pb.gz"
