"""The application of the service as a deployment of Ray Serve.

    serve run deploy.ray_serve:application

Sensible where a cluster runs Ray Serve already, and this model is one step of an application there, at some hundred
requests a second. Not sensible to serve this model alone: a request takes Ray milliseconds, and the model microseconds;
and the application is here without the server around it. So there are no limits and timeouts for slow clients, no gRPC,
no TLS, no drain and no reload: a new model is a new deployment. Ray scales by requests, which may have one event or a
million. Instead use `deploy/kubernetes`, or `deploy/haproxy` or `deploy/envoy` before services on machines of your own.
"""

import os

from litestar import Litestar
from ray import serve

from service.api.app import create_app
from service.model.artefact import load_artefact
from service.settings import parse_settings


def build() -> Litestar:
    """Build the application in a replica, by the variables `ANOMALY_...` there: the model, and the limits of a request.

    Raises ArtefactError for a model that cannot be served.
    """
    settings = parse_settings([], os.environ)
    return create_app(settings, load_artefact(settings.model, max_bytes=settings.max_model_bytes)).main


application = serve.deployment(
    serve.ingress(build)(),
    name="anomaly",
    num_replicas=2,
    max_ongoing_requests=100,
    logging_config={"enable_access_log": False},
    ray_actor_options={"num_cpus": 1},
).bind()
