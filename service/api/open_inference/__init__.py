"""The Open Inference Protocol (KServe v2), over HTTP and gRPC.

`description`, `parameters` and `statistics` are independent of the transport.
"""
