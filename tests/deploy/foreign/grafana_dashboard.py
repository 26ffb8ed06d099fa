"""Read a dashboard by the types of Grafana's SDK and write it again: JSON in, JSON out, without what they do not know.

Runs in the environment of `make build/deploy/ready`.
"""

import json
import sys

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

register_default_plugins()
json.dump(Dashboard.from_json(json.load(sys.stdin)), sys.stdout, cls=JSONEncoder)
