"""Check manifests of KServe by the models of its SDK: a JSON list of them in, a list of what is wrong with each out.

The SDK itself ignores keys that it does not know. Runs in the environment of `make build/deploy/ready`, which has
the SDK without what it needs to serve: so its package is not executed, but its models.
"""

import json
import re
import sys
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from typing import Any

import kubernetes.client.models as kubernetes_models

spec = find_spec("kserve")
assert spec is not None
sys.modules["kserve"] = module_from_spec(spec)
kserve_models = import_module("kserve.models")

KINDS = {"ServingRuntime": "V1alpha1ServingRuntime", "InferenceService": "V1beta1InferenceService"}
PLAIN = {"str": str, "int": int, "bool": bool, "object": object, "ResourceQuantity": str}


def fault(value: Any, kind: str, path: str) -> str:
    """Say what is wrong with a value that is to be of a kind, as the SDK names it; an empty text where nothing is."""
    inner = re.fullmatch(r"list\[(.+)\]|dict\(str, (.+)\)", kind)
    if inner and inner[1]:
        found = [fault(one, inner[1], f"{path}[{place}]") for place, one in enumerate(value)]
    elif inner:
        found = [fault(one, inner[2], f"{path}.{key}") for key, one in value.items()]
    elif kind in PLAIN:
        return "" if isinstance(value, PLAIN[kind]) else f"{path} is {value!r}, expected {kind}"
    else:
        model = getattr(kserve_models, kind, None) or getattr(kubernetes_models, kind)
        kinds = {key: model.openapi_types[name] for name, key in model.attribute_map.items()}
        found = [f"unknown key {path}.{key}" for key in value.keys() - kinds.keys()]
        found += [fault(value[key], kinds[key], f"{path}.{key}") for key in value.keys() & kinds.keys()]
        found += [_refused(model, value, path)] if not any(found) else []
    return next(filter(None, found), "")


def _refused(model: Any, value: dict[str, Any], path: str) -> str:
    """Say which value the model itself refuses, as one that is missing."""
    names = {key: name for name, key in model.attribute_map.items()}
    try:
        model(**{names[key]: one for key, one in value.items()})
    except ValueError as error:
        return f"{path}: {error}"
    return ""


json.dump([fault(one, KINDS[one["kind"]], one["kind"]) for one in json.load(sys.stdin)], sys.stdout)
