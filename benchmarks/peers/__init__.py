"""Other ways to serve the same exported graph, one small file each, all with the surface of `surface.Peer`."""

NAMES = (
    "fastapi_onnx",
    "fastapi_torch",
    "litserve",
    "litserve_batching",
    "bentoml",
    "mlserver",
    "ray_serve",
    "pytriton",
)
