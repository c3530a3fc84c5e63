#!/bin/sh
# Everything that docs/performance.md quotes, in one go, about 15 minutes: for a machine that does nothing else.
#
#   tests/bench/all.sh [--out DIR]      each figure as JSON in DIR too
set -eu
here=$(cd "$(dirname "$0")/../.." && pwd)
. "$here/scripts/lib.sh"

out=$(mktemp -d)
case ${1:-} in
--out) out=$2; mkdir -p "$out" ;;
"") ;;
*) sed -n '2,4p' "$0" >&2; exit 2 ;;
esac
need_build_tools
[ -n "${WARREN_BENCH:-}" ] || build_full
bench=${WARREN_BENCH:-$full/warren-bench}

run() { # NAME ARGS...: JSON to the folder, a line for people here
  name=$1
  shift
  printf '\n== warren bench %s   (load %s)\n' "$*" "$(cut -d' ' -f1 /proc/loadavg)"
  WARREN_LOG=error "$bench" "$@" --json >"$out/$name.json" && cat "$out/$name.json"
}

run crypto crypto
run handshake handshake --rounds 200
run build build
run build-far build --delay-ms 40
run link link
for workers in 1 2; do
  for tunnels in 1 16; do
    run "relay-$workers-$tunnels" relay --workers "$workers" --tunnels "$tunnels"
  done
done
run path path
run far far --seconds 20
run idle idle --links 20 --tunnels 1000
run idle-10 idle --links 10 --tunnels 0
run idle-100 idle --links 100 --tunnels 10000
run idle-1000 idle --links 1000 --tunnels 0
run store store --dir "$out"
say "the figures are in $out"
