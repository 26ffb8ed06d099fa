"""The Open Inference Protocol (KServe v2): one meaning, beside the native API; written out by HTTP and by gRPC.

`description`, `parameters` and `statistics` know neither of the two.
"""
