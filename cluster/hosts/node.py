"""One host of a cluster over ssh: what is written to it, and what starts it again.

All of it lies in ~/.diffsweep there, for its owner alone: the token, the environment, `node.sh`,
which is the host's part of the cluster, and what starts that again whenever it ends: a unit of
systemd, or `keep.sh` where there is no systemd for users. It ends when Ray has declared the host
dead, after a broken link: a raylet that was declared dead never rejoins, a new one does.
"""

from __future__ import annotations

from cluster.hosts.inventory import Inventory, Machine

UNIT = "diffsweep-node.service"
PATIENCE = 120  # seconds that workers try to reach a head which is away, before they end
AGAIN = 5  # seconds until what ended is started again

KEEP = f"""\
#!/bin/sh
# Starts this host's part of the cluster again whenever it ends. Written by `diffsweep up --hosts`.
cd "$(dirname "$0")" || exit 1
exec 9>lock && flock -n 9 || exit 0  # one is enough
echo $$ >pid
trap 'trap - TERM; kill "$child" 2>/dev/null; wait "$child"; rm -f pid; exit 0' TERM
while :; do
  sh node.sh 9>&- & child=$!
  wait "$child"
  echo "$(date) ended with code $?; starts again in {AGAIN} s"
  sleep {AGAIN} 9>&- & child=$!
  wait "$child"
done
"""
SERVICE = f"""\
[Unit]
Description=diffsweep: this host's part of a Ray cluster
StartLimitIntervalSec=0

[Service]
ExecStart=/bin/sh %h/.diffsweep/node.sh
Restart=always
RestartSec={AGAIN}
TimeoutStopSec=60
UMask=0077
NoNewPrivileges=true

[Install]
WantedBy=default.target
"""
STOP = f"""\
set -u
cd ~/.diffsweep 2>/dev/null || exit 0
unit=~/.config/systemd/user/{UNIT}
if [ -e "$unit" ]; then
  systemctl --user disable --now {UNIT} && rm -f "$unit"
fi
if [ -e pid ] && ! flock -n lock true; then  # nobody else has this lock: the pid is of keep.sh
  kill "$(cat pid)"
  for i in $(seq 90); do flock -n lock true && break; sleep 1; done
  flock -n lock true || {{ echo "keep.sh does not end" >&2; exit 1; }}
fi
rm -rf token environment node.sh keep.sh gcs pid lock
"""
# exit 1 where there is no systemd that would let a unit of this user outlive the login
START = f"""\
if systemctl --user daemon-reload 2>/dev/null && loginctl enable-linger 2>/dev/null; then
  systemctl --user enable --now {UNIT} 2>/dev/null
else
  rm -f ~/.config/systemd/user/{UNIT}
  setsid sh keep.sh >>log 2>&1 </dev/null &
fi
"""


def node_script(inventory: Inventory, machine: Machine) -> str:
    """The host's part of the cluster, until it ends."""
    head = machine == inventory.head
    amounts = {"num-cpus": 0 if head else machine.cpus, "num-gpus": 0 if head else machine.gpus}
    if head:
        where = [
            f"--head --port={inventory.port} --dashboard-port={inventory.dashboard_port}",
            f"--dashboard-host={machine.address}",
        ]
    else:
        where = [f"--address={inventory.head.address}:{inventory.port}"]
    where += [f"--{name}={amount}" for name, amount in amounts.items() if amount is not None]
    lines = [f"  {part} \\" for part in (f"--node-ip-address={machine.address}", *where)]
    return "\n".join(
        [
            "#!/bin/sh",
            "# This host's part of the cluster. Written by `diffsweep up --hosts`.",
            'cd "$(dirname "$0")" || exit 1',
            "umask 077",
            "set -a",
            ". ./environment",
            "set +a",
            f"python={inventory.python}",
            'PATH=$(dirname "$python"):$PATH  # jobs say just `python`',
            "export PATH",
            'exec "$python" -m ray.scripts.scripts start --block --disable-usage-stats \\',
            *lines,
            "  --include-log-monitor=false",
            "",
        ]
    )


def environment(inventory: Inventory, machine: Machine) -> str:
    """What all processes of the cluster on this host know, as a shell reads it."""
    given = dict(inventory.environment)
    given |= {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": "$HOME/.diffsweep/token",
        "RAY_gcs_rpc_server_reconnect_timeout_s": str(PATIENCE),
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    if machine == inventory.head:  # the cluster's own state outlives a power cut of the head
        given |= {"RAY_gcs_storage": "rocksdb", "RAY_gcs_storage_path": "$HOME/.diffsweep/gcs"}
    return "".join(f'{name}="{value}"\n' for name, value in given.items())


def files(inventory: Inventory, machine: Machine, token: str) -> dict[str, str]:
    """What is written to ~/.diffsweep, by name."""
    return {
        "token": token,
        "environment": environment(inventory, machine),
        "node.sh": node_script(inventory, machine),
        "keep.sh": KEEP,
    }


def start_script(inventory: Inventory, machine: Machine, token: str) -> str:
    """Write everything to a host, and start it. Sent over ssh's stdin, so no secret is in argv."""
    written = [
        f"cat >{name} <<'END-OF-FILE'\n{content.rstrip()}\nEND-OF-FILE\n"
        for name, content in files(inventory, machine, token).items()
    ]
    unit = f"mkdir -p ~/.config/systemd/user\ncat >~/.config/systemd/user/{UNIT} <<'END-OF-FILE'\n"
    return "".join(
        [
            "set -eu\numask 077\nmkdir -p ~/.diffsweep\nchmod 700 ~/.diffsweep\n",
            "cd ~/.diffsweep\n",
            *written,
            f"{unit}{SERVICE}END-OF-FILE\n",
            START,
        ]
    )


def probe_script(inventory: Inventory) -> str:
    """Ask a host for its versions, as JSON."""
    code = (
        "import json, platform, ray; "
        'print(json.dumps({"Python": platform.python_version(), "Ray": ray.__version__}))'
    )
    return f"exec {inventory.python} -c '{code}'\n"
