"""The manifests of deploy/kubernetes, as they are written and as kubectl builds them."""

import subprocess
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any, Final

import yaml

from service.settings import Settings, parse_settings

ROOT: Final = Path(__file__).parents[2]
KUBERNETES: Final = ROOT / "deploy" / "kubernetes"
ENVIRONMENT: Final = ROOT / "build" / "deploy"
"""What `make build/deploy/ready` installs."""

KUBECTL: Final = ENVIRONMENT / "layer" / "kubectl" / "kubectl"
BUILT: Final = ("base", "overlays/hpa", "overlays/keda", "overlays/monitoring", "overlays/kserve", "overlays/site")
"""The folders that kubectl applies."""

Manifest = dict[str, Any]


def written() -> Iterator[Manifest]:
    """Read every manifest below deploy/kubernetes as it is written."""
    for path in sorted(KUBERNETES.rglob("*.yaml")):
        if path.name not in {"kustomization.yaml", "values-supersonic.yaml"}:
            yield from yaml.safe_load_all(path.read_text())


def read(path: str) -> Manifest:
    """Read one file of one manifest below deploy/kubernetes."""
    manifest: Manifest = yaml.safe_load((KUBERNETES / path).read_text())
    return manifest


def of_kind(kind: str, manifests: Iterator[Manifest] | list[Manifest]) -> list[Manifest]:
    """Choose the manifests of a kind."""
    return [one for one in manifests if one["kind"] == kind]


def build(folder: str) -> list[Manifest]:
    """Have kubectl build a folder below deploy/kubernetes."""
    command = [str(KUBECTL), "kustomize", str(KUBERNETES / folder)]
    built = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert built.returncode == 0, built.stderr[-2000:]
    return list(yaml.safe_load_all(built.stdout))


def container(manifest: Manifest) -> Manifest:
    """Give the only container of a Deployment or a ServingRuntime."""
    spec = manifest["spec"]
    [only] = spec["template"]["spec"]["containers"] if manifest["kind"] == "Deployment" else spec["containers"]
    return dict(only)


def base_settings() -> Settings:
    """Read the settings of the base, which the service must know."""
    lines = (KUBERNETES / "base" / "settings.env").read_text().splitlines()
    return parse_settings([], dict(line.split("=", 1) for line in lines if line and not line.startswith("#")))


def component_settings() -> dict[str, str]:
    """Give the variables that components and overlays add, by name."""
    generators = chain.from_iterable(
        yaml.safe_load(path.read_text()).get("configMapGenerator", [])
        for path in sorted(KUBERNETES.rglob("kustomization.yaml"))
    )
    return dict(one.split("=", 1) for generator in generators for one in generator.get("literals", []))
