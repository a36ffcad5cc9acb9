"""A host that joins a Ray on loopback, with so many CPUs: python host.py ADDRESS CPUS

Ray's own command refuses that where Ray was told to stay on loopback.
"""

import sys
import time

from ray._private.node import Node
from ray._private.parameter import RayParams


def main(address: str, cpus: int) -> None:
    about = RayParams(
        gcs_address=address,
        node_ip_address="127.0.0.1",
        num_cpus=cpus,
        object_store_memory=100 << 20,
        include_log_monitor=False,
        dashboard_agent_listen_port=None,
    )
    Node(about, head=False, shutdown_at_exit=False, spawn_reaper=False)
    while True:
        time.sleep(60)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
