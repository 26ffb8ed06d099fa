"""Runs the application of `deploy/ray_serve.py` on a port, in a cluster of Ray that this process starts and ends.

python tests/deploy/foreign/ray_serve.py PORT
"""

import json
import signal
import sys

import ray
from ray import serve

from deploy.ray_serve import application

if __name__ == "__main__":
    port = int(sys.argv[1])
    ray.init("local", num_cpus=2, include_dashboard=False, logging_level="warning")
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    serve.run(application)
    print(json.dumps({"event": "ready", "url": f"http://127.0.0.1:{port}"}), file=sys.stderr, flush=True)
    signal.pause()
