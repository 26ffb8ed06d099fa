"""Serve the graph as one peer does; run by the Python of that peer's environment, from the root of the repository.

build/peers/fastapi_onnx/bin/python -m benchmarks.peers.serve fastapi_onnx exported/autoencoder.onnx 8001
"""

import signal
import sys
from importlib import import_module

if __name__ == "__main__":
    name, model, port = sys.argv[1:]
    # Where a peer has no handler of its own, this lets it end its children, as at Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    import_module(f"benchmarks.peers.{name}").serve(model, int(port))
