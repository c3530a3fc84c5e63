#!/usr/bin/env python3
"""Private networks of other programs on this machine, to measure beside Warren's.

    peers.py up NETWORK DIR --origin PORT    start it; DIR/network.json says how to reach it
    peers.py down DIR                        stop every process that `up` started

NETWORK is tor (its fastest settings), tor-default or i2pd. Each has a client, a hidden service for
127.0.0.1:PORT, and relays between them: six on the way, seven encrypted links. All traffic stays on
loopback; i2pd's in a network namespace of its own, which needs root, since it talks to no router
on 127.0.0.0/8.
"""

import argparse
import base64
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

AUTHORITIES = 3
TOR_RELAYS = 7
TOR_SOCKS = 19150
I2P_ROUTERS = 12
I2P_FLOODFILLS = 6
I2P_SOCKS = 19447
I2P_NET = 77
NAMESPACE = "warren-bench"
WAIT = 120


def wait_for(what, done):
    """Polls until `done()` gives something."""
    until = time.monotonic() + WAIT
    while time.monotonic() < until:
        if found := done():
            return found
        time.sleep(0.1)
    sys.exit(f"waited {WAIT} s for {what}")


def text(path):
    return path.read_text().strip() if path.exists() else ""


class Processes:
    """What was started: one line of DIR/pids each, so that `down` finds it."""

    def __init__(self, base):
        self.base = base
        self.file = base / "pids"
        self.members = []

    def start(self, role, command, log):
        with open(log, "wb") as output:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        self.members.append({"pid": process.pid, "role": role})
        with self.file.open("a") as pids:
            pids.write(f"{process.pid}\n")

    def write(self, name, proxy, host):
        network = {"name": name, "proxy": proxy, "host": host, "links": 7, "processes": self.members}
        (self.base / "network.json").write_text(json.dumps(network))


def ours(pid, base):
    """Whether `pid` still is what was started for `base`: numbers are used again."""
    try:
        return str(base).encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def down(base):
    pids = [int(pid) for pid in text(base / "pids").split()]
    for number in [signal.SIGTERM, signal.SIGKILL]:
        for pid in filter(lambda pid: ours(pid, base), pids):
            os.kill(pid, number)
        for _ in range(50):
            if not any(ours(pid, base) for pid in pids):
                return
            time.sleep(0.1)


# --- Tor


def tor_address(k):
    return f"127.60.{k}.1"


def tor_lines(base, name, fast):
    lines = [
        f"DataDirectory {base / name}",
        f"Nickname {name}",
        "TestingTorNetwork 1",
        "AssumeReachable 1",
        "PathsNeededToBuildCircuits 0.67",
        "DirCache 1",
        f"Log notice file {base / name}/notice.log",
    ]
    # Ten milliseconds by default, which is what paces a network without distance.
    return lines + (["KISTSchedRunInterval 1 msec"] if fast else [])


def tor_relay(base, k, fast):
    return tor_lines(base, f"n{k}", fast) + [
        f"Address {tor_address(k)}",
        f"ORPort {tor_address(k)}:{5000 + k} IPv4Only",
        f"OutboundBindAddress {tor_address(k)}",
        "SocksPort 0",
        "ExtendAllowPrivateAddresses 1",
        "ServerDNSDetectHijacking 0",
        "ServerDNSTestAddresses",
    ]


def tor_authority(base, k, fast):
    congestion = 0 if fast else 2  # fixed windows, or Vegas as in the public network
    return tor_relay(base, k, fast) + [
        "AuthoritativeDirectory 1",
        "V3AuthoritativeDirectory 1",
        "ContactInfo nobody@localhost",
        f"DirPort {tor_address(k)}:{7000 + k} IPv4Only",
        "ExitPolicy reject *:*",
        "V3AuthVotingInterval 20",
        "V3AuthVoteDelay 4",
        "V3AuthDistDelay 4",
        "TestingV3AuthInitialVotingInterval 20",
        "TestingV3AuthInitialVoteDelay 4",
        "TestingV3AuthInitialDistDelay 4",
        "TestingDirAuthVoteExit *",
        "TestingDirAuthVoteHSDir *",
        "TestingDirAuthVoteGuard *",
        "TestingMinExitFlagThreshold 0",
        "AuthDirMaxServersPerAddr 0",
        "MinUptimeHidServDirectoryV2 0",
        f"ConsensusParams cc_alg={congestion}",
    ]


def tor_certify(base, k):
    """Makes an authority's keys: the line by which all others know it."""
    keys = base / f"n{k}" / "keys"
    keys.mkdir(parents=True, mode=0o700)
    os.chmod(base / f"n{k}", 0o700)
    subprocess.run(
        [
            "tor-gencert", "--create-identity-key", "-m", "12", "-a", f"{tor_address(k)}:{7000 + k}",
            "-i", keys / "authority_identity_key", "-s", keys / "authority_signing_key",
            "-c", keys / "authority_certificate", "--passphrase-fd", "0",
        ],
        input=b"bench\n", check=True, capture_output=True,
    )  # fmt: skip
    torrc = base / f"n{k}" / "torrc"
    nobody = "0000000000000000000000000000000000000000"
    line = f"DirAuthority x orport=1 v3ident={nobody} 127.0.0.1:1 {nobody}"
    torrc.write_text("\n".join(tor_authority(base, k, False) + [line, ""]))
    listed = subprocess.run(
        ["tor", "-f", torrc, "--defaults-torrc", "/dev/null", "--list-fingerprint", "--quiet"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    fingerprint = "".join(listed.stdout.strip().splitlines()[-1].split()[1:])
    certificate = text(keys / "authority_certificate").splitlines()
    v3 = next(line.split()[1] for line in certificate if line.startswith("fingerprint"))
    return f"DirAuthority n{k} orport={5000 + k} no-v2 v3ident={v3} {tor_address(k)}:{7000 + k} {fingerprint}"


def tor_up(base, origin, fast):
    authorities = range(1, AUTHORITIES + 1)
    relays = range(AUTHORITIES + 1, AUTHORITIES + TOR_RELAYS + 1)
    known = [tor_certify(base, k) for k in authorities]
    nodes = [("relay", f"n{k}", tor_authority(base, k, fast)) for k in authorities]
    for k in relays:
        # A network without exits makes no circuits.
        exits = ["ExitRelay 1", "ExitPolicyRejectPrivate 0", "ExitPolicy accept 127.0.0.0/8:*"]
        policy = exits if k < AUTHORITIES + 4 else []
        nodes.append(("relay", f"n{k}", tor_relay(base, k, fast) + policy + ["ExitPolicy reject *:*"]))
    hidden = base / "service" / "hidden"
    service = ["SocksPort 0", f"HiddenServiceDir {hidden}", f"HiddenServicePort 80 127.0.0.1:{origin}"]
    nodes.append(("service", "service", tor_lines(base, "service", fast) + service))
    client = [f"SocksPort 127.0.0.1:{TOR_SOCKS}"]
    nodes.append(("client", "client", tor_lines(base, "client", fast) + client))
    processes = Processes(base)
    for role, name, lines in nodes:
        (base / name).mkdir(mode=0o700, exist_ok=True)
        torrc = base / name / "torrc"
        torrc.write_text("\n".join(lines + known + [""]))
        command = ["tor", "-f", str(torrc), "--defaults-torrc", "/dev/null"]
        processes.start(role, command, base / name / "output")
    host = wait_for("Tor's hidden service", lambda: text(hidden / "hostname"))
    processes.write("tor" if fast else "tor-default", f"127.0.0.1:{TOR_SOCKS}", host)


# --- i2pd


def inside(*command):
    return ["ip", "netns", "exec", NAMESPACE, *map(str, command)]


def i2p_config(base, name, k, floodfill, socks):
    lengths = "".join(f"{way}.length = 3\n{way}.quantity = 5\n" for way in ["inbound", "outbound"])
    (base / name / "tunnels.d").mkdir(parents=True)
    (base / name / "i2pd.conf").write_text(f"""\
tunconf = {base / name}/tunnels.conf
tunnelsdir = {base / name}/tunnels.d
certsdir = {base}/certificates
log = file
logfile = {base / name}/i2pd.log
loglevel = warn
ipv4 = true
ipv6 = false
host = 11.{k}.0.1
address4 = 11.{k}.0.1
port = {20000 + k}
netid = {I2P_NET}
nat = false
reservedrange = false
floodfill = {str(floodfill).lower()}
bandwidth = 1000000
share = 100
[http]
enabled = false
[httpproxy]
enabled = false
[socksproxy]
enabled = {str(socks > 0).lower()}
address = 127.0.0.1
port = {socks}
{lengths}[sam]
enabled = false
[upnp]
enabled = false
[reseed]
verify = false
threshold = 0
urls =
yggurls =
[addressbook]
enabled = false
defaulturl =
subscriptions =
[ntcp2]
enabled = true
published = true
[ssu2]
enabled = false
published = false
[nettime]
enabled = false
[precomputation]
elgamal = false
""")
    (base / name / "tunnels.conf").write_text("")
    return lengths


def i2p_start(processes, base, role, name):
    folder = base / name
    command = inside("i2pd", f"--datadir={folder}", f"--conf={folder}/i2pd.conf")
    processes.start(role, command, folder / "output")


def identity(data):
    """The identity that a router description or a key file begins with, and its hash."""
    length = 387 + int.from_bytes(data[385:387], "big")
    return hashlib.sha256(data[:length]).digest()


def i2p_introduce(base, names):
    """Tells every router of all others, as there is nowhere to ask."""
    known = {name: (base / name / "router.info").read_bytes() for name in names}
    for name in names:
        shutil.rmtree(base / name / "netDb", ignore_errors=True)
        for other, info in known.items():
            if other == name:
                continue
            label = base64.b64encode(identity(info), altchars=b"-~").decode()
            folder = base / name / "netDb" / f"r{label[0]}"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"routerInfo-{label}.dat").write_bytes(info)


def i2p_up(base, origin):
    subprocess.run(["ip", "netns", "del", NAMESPACE], capture_output=True)
    subprocess.run(["ip", "netns", "add", NAMESPACE], check=True)
    subprocess.run(inside("ip", "link", "set", "lo", "up"), check=True)
    for kind in ["reseed", "family"]:
        (base / "certificates" / kind).mkdir(parents=True)
    names = [f"n{k}" for k in range(1, I2P_ROUTERS + 1)] + ["service", "client"]
    for k, name in enumerate(names, 1):
        subprocess.run(inside("ip", "addr", "add", f"11.{k}.0.1/32", "dev", "lo"), check=True)
        lengths = i2p_config(base, name, k, k <= I2P_FLOODFILLS, I2P_SOCKS if name == "client" else 0)
        if name == "service":
            head = f"[site]\ntype = http\nhost = 127.0.0.1\nport = {origin}\nkeys = site.dat\n"
            (base / name / "tunnels.conf").write_text(head + lengths)
    # A first run, in which each makes its keys.
    processes = Processes(base)
    for name in names:
        i2p_start(processes, base, "relay", name)
    made = [base / name / "router.info" for name in names] + [base / "service" / "site.dat"]
    wait_for("i2pd's keys", lambda: all(file.exists() and file.stat().st_size for file in made))
    time.sleep(2)
    down(base)
    i2p_introduce(base, names)
    processes = Processes(base)
    for name in names:
        i2p_start(processes, base, name if name in ["service", "client"] else "relay", name)
    digest = identity((base / "service" / "site.dat").read_bytes())
    host = base64.b32encode(digest).decode().lower().rstrip("=") + ".b32.i2p"
    processes.write("i2pd", f"127.0.0.1:{I2P_SOCKS}", host)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    up = verbs.add_parser("up")
    up.add_argument("network", choices=["tor", "tor-default", "i2pd"])
    up.add_argument("dir", type=Path)
    up.add_argument("--origin", type=int, required=True)
    verbs.add_parser("down").add_argument("dir", type=Path)
    args = parser.parse_args()
    base = args.dir.resolve()
    if args.verb == "down":
        return down(base)
    base.mkdir(parents=True)
    if args.network == "i2pd":
        i2p_up(base, args.origin)
    else:
        tor_up(base, args.origin, args.network == "tor")


if __name__ == "__main__":
    main()
