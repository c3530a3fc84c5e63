#!/usr/bin/env python3
"""One table of what `compare.sh` measured: table.py FILE.json..."""

import json
import statistics
import sys

ROWS = [
    # what, how to find it, decimals, whether more is better
    ("one download, MiB/s", lambda r: r["one"]["mib_per_s"], 1, True),
    ("eight at once, MiB/s", lambda r: r["many"]["mib_per_s"], 1, True),
    ("CPU-s per GiB, one download", lambda r: r["one"]["cpu_s_per_gib_net"], 1, False),
    ("CPU-s per GiB, eight at once", lambda r: r["many"]["cpu_s_per_gib_net"], 1, False),
    ("CPU-s per GiB of one relay's hop, eight at once", lambda r: r["many"]["relay_cpu_s_per_gib_per_hop"], 2, False),
    ("first byte, idle, median ms", lambda r: r["first_byte"]["median_ms"], 1, False),
    ("first byte, idle, p95 ms", lambda r: r["first_byte"]["p95_ms"], 1, False),
    ("first byte beside bulk at 70 %, p95 ms", lambda r: r["first_byte_busy"]["p95_ms"], 1, False),
    ("first byte, saturated, p95 ms", lambda r: r["first_byte_saturated"]["p95_ms"], 1, False),
    ("idle, CPU-s per hour of all processes", lambda r: r["idle_cores"] * 3600, 1, False),
    ("memory of a process after load, MiB, median", lambda r: r["loaded_mib"][0], 0, False),
]
FOREIGN = lambda r: max(r[kind]["foreign_cores"] for kind in ["one", "many", "first_byte"])


def main(files):
    runs = {}
    for file in files:
        with open(file) as opened:
            run = json.load(opened)
        runs.setdefault(run["name"], []).append(run)
    if "warren" not in runs:
        sys.exit("no run of Warren among these")
    others = [name for name in runs if name != "warren"]
    print("| | warren | " + " | ".join(f"{name} | times" for name in others) + " |")
    print("|---" * (2 + 2 * len(others)) + "|")
    for what, find, decimals, more in ROWS:
        ours = statistics.median(map(find, runs["warren"]))
        cells = [f"{ours:.{decimals}f}"]
        for name in others:
            theirs = statistics.median(map(find, runs[name]))
            above, below = (ours, theirs) if more else (theirs, ours)
            cells += [f"{theirs:.{decimals}f}", f"{above / below:.1f}" if below > 0 else ""]
        print(f"| {what} | " + " | ".join(cells) + " |")
    for name, those in runs.items():
        foreign = max(map(FOREIGN, those))
        print(f"\n{name}: {len(those)} runs; at most {foreign:.2f} cores were busy with other work", end="")
    print()


main(sys.argv[1:])
