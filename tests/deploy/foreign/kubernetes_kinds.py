"""Check manifests of Kubernetes' own kinds: a JSON list of them in, a list of what is wrong with each out.

Runs in the environment of `make build/deploy/ready`.
"""

import json
import sys
from typing import Any

import kubernetes_validate

VERSION = "1.35"


def fault(manifest: dict[str, Any]) -> str:
    """Say what is wrong with a manifest, unknown keys and kinds included; an empty text where nothing is."""
    try:
        kubernetes_validate.validate(manifest, VERSION, strict=True)
    except kubernetes_validate.ValidationError as error:
        return str(error.message)
    except kubernetes_validate.SchemaNotFoundError as error:
        return str(error.message)
    return ""


json.dump(list(map(fault, json.load(sys.stdin))), sys.stdout)
