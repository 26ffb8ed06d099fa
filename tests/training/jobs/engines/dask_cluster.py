"""A cluster of Dask that prints its address, its process for each line that it reads, and ends with its input."""

import os
import sys

from dask import config
from distributed import LocalCluster

if __name__ == "__main__":
    config.set({"distributed.scheduler.allowed-failures": 10})
    with LocalCluster(n_workers=int(sys.argv[1]), threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster:
        print(cluster.scheduler_address, flush=True)
        for _ in sys.stdin:
            print(os.getpid(), flush=True)
