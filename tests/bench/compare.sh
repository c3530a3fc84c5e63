#!/bin/sh
# Warren beside Tor and i2pd on this machine: one table of ratios.
#
#   tests/bench/compare.sh [--rounds N] [--out DIR] [--quick] [NETWORK...]
#
# NETWORK is of: warren tor tor-default i2pd (default: warren tor i2pd). Each round brings each up in turn, measures it
# with `warren bench path`, and takes it down: so what disturbs one run disturbs all of them alike. Installs tor and i2pd
# with apt where they are missing; i2pd needs root. All traffic stays on loopback. How to read it: docs/performance.md.
set -eu
here=$(cd "$(dirname "$0")/../.." && pwd)
. "$here/scripts/lib.sh"

rounds=3
out=
flags=
networks=
while [ $# -gt 0 ]; do
  case $1 in
  --rounds) rounds=$2; shift ;;
  --out) out=$2; shift ;;
  --quick) flags="--rounds 2 --seconds 3 --fetches 30" ;;
  warren | tor | tor-default | i2pd) networks="$networks $1" ;;
  *) sed -n '2,9p' "$0" >&2; exit 2 ;;
  esac
  shift
done
networks=${networks:-warren tor i2pd}
out=${out:-$(mktemp -d)}
mkdir -p "$out"
base=$(mktemp -d)
origin=18090
bench=${WARREN_BENCH:-$full/warren-bench}

need python3 python3
need_build_tools
[ -n "${WARREN_BENCH:-}" ] || build_full
for network in $networks; do
  case $network in
  tor | tor-default) need tor tor ;;
  i2pd) need i2pd i2pd; need ip iproute2 ;;
  esac
done

peers=$here/tests/bench/peers.py
up=
finish() {
  if [ -n "$up" ]; then python3 "$peers" down "$up"; fi
  rm -rf "$base"
}
trap finish EXIT
trap 'exit 1' INT TERM

measure() { # NETWORK FILE
  if [ "$1" = warren ]; then
    # shellcheck disable=SC2086
    "$bench" path --joins 0 $flags --json >"$2"
    return
  fi
  up=$base/$1-$round
  python3 "$peers" up "$1" "$up" --origin "$origin"
  run=
  [ "$1" = i2pd ] && run="ip netns exec warren-bench"
  # shellcheck disable=SC2086
  $run "$bench" path --attach "$up/network.json" --listen "127.0.0.1:$origin" $flags --json >"$2"
  python3 "$peers" down "$up"
  up=
}

for round in $(seq "$rounds"); do
  for network in $networks; do
    say "round $round of $rounds: $network"
    measure "$network" "$out/$network-$round.json"
  done
done
python3 "$here/tests/bench/table.py" "$out"/*.json
say "the runs are in $out"
