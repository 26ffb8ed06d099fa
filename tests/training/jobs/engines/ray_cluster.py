"""A cluster of Ray that prints its address, removes the node of each process that it reads, and ends with its input."""

import sys
from pathlib import Path

from ray.cluster_utils import Cluster

FAST_DETECTION = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 200,
    "health_check_failure_threshold": 3,
}


def parent(process: int) -> int:
    """Return the process that started a process."""
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


if __name__ == "__main__":
    head = {"num_cpus": 0, "include_dashboard": False, "_system_config": FAST_DETECTION}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    nodes = [cluster.add_node(num_cpus=1) for _ in range(int(sys.argv[1]))]
    print(cluster.address, flush=True)
    for line in sys.stdin:
        if line.strip() == "head":
            print(cluster.head_node.all_processes["gcs_server"][0].process.pid, flush=True)
            continue
        raylet = parent(int(line))
        [node] = [node for node in nodes if raylet in (one.process.pid for one in node.all_processes["raylet"])]
        cluster.remove_node(node, allow_graceful=False)
        print("removed", flush=True)
    cluster.shutdown()
