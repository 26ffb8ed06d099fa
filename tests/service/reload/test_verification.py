"""Which models may take the place of one in use: those to which the requests of its clients mean the same."""

from typing import Any

import msgspec
import pytest

from service.model.artefact import ArtefactError
from service.reload.verification import check_clients
from tests.artefacts import metadata

IN_USE = metadata()
OTHERS: list[tuple[dict[str, Any], str]] = [
    (
        {"feature_names": IN_USE.feature_names[:4], "feature_units": ["GeV"] * 4},
        "features: found 4, expected 5 as in use",
    ),
    ({"feature_names": IN_USE.feature_names[::-1]}, "feature 0: found feature4 in GeV, expected feature0 in GeV"),
    (
        {"feature_units": ["GeV", "GeV", "GeV", "GeV", "TeV"]},
        "feature 4: found feature4 in TeV, expected feature4 in GeV",
    ),
    ({"working_points": IN_USE.working_points[:1]}, "working points: found loose, expected tight as in use"),
    ({"working_points": []}, "working points: found none, expected loose as in use"),
]


def test_a_model_that_takes_other_requests_is_refused(subtests: pytest.Subtests) -> None:
    """Other features, another order or unit of them, and the lack of a working point are named, with the remedy."""
    for changes, words in OTHERS:
        with subtests.test(words=words), pytest.raises(ArtefactError) as refused:
            check_clients(msgspec.structs.replace(IN_USE, **changes), IN_USE)
        assert str(refused.value).startswith(words)
        assert "or set --reload-any-model" in str(refused.value)


def test_a_model_that_takes_more_requests_is_loaded() -> None:
    """Other thresholds, a new working point and another name are no change of the contract with clients."""
    loose, tight = IN_USE.working_points
    points = [msgspec.structs.replace(loose, threshold=3.0), msgspec.structs.replace(tight, name="new"), tight]
    check_clients(msgspec.structs.replace(IN_USE, model_name="other", working_points=points), IN_USE)
