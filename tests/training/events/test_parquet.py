"""Parquet files hold each column in the encoding that suits it."""

from pathlib import Path

import numpy as np
from pyarrow import parquet

from training.events.parquet import write_parquet

DICTIONARY = "RLE_DICTIONARY"


def test_only_what_repeats_has_a_dictionary(tmp_path: Path) -> None:
    """Labels and names of models have one, and measured numbers, each of which occurs once, have none."""
    rng = np.random.default_rng(1)
    masses = rng.normal(size=100)
    columns = {"mj1": masses, "score": rng.normal(size=100).astype(np.float32)}
    repeated = {"label": np.arange(100) % 2, "model": ["density"] * 100}
    for name, chunk, expected in (
        ("both", columns | repeated, {"label", "model"}),
        ("numbers", columns, set()),
    ):
        out = tmp_path / f"{name}.parquet"
        write_parquet(out, iter([chunk, chunk]), {"model": "density"})
        group = parquet.read_metadata(out).row_group(1)
        found = [group.column(place) for place in range(group.num_columns)]
        assert {column.path_in_schema for column in found if DICTIONARY in column.encodings} == expected
        np.testing.assert_array_equal(parquet.read_table(out)["mj1"].to_numpy(), np.tile(masses, 2))
