"""Faults of the offline half: events, files, working points, figures of merit and the export."""

from tests.mutants.fault import Fault, Part

EXPORT = "tests/training/fitting/test_export.py"
HDF5 = "tests/training/events/test_hdf5.py"
PARITY = f"{EXPORT}::test_a_graph_that_scores_otherwise_is_refused[density]"
WRITTEN = "tests/training/test_files.py::test_the_content_is_on_the_disk_before_the_rename_and_the_rename_after_it"

OFFLINE = (
    Part(
        "training/files.py",
        "tests/training/test_files.py",
        [
            Fault(
                "a file is not on the disk before the rename", "os.fsync(self.descriptor)\n        if", "if", WRITTEN
            ),
            Fault("a rename is not on the disk", "            _sync(folder)\n", "            pass\n", WRITTEN),
            Fault("a signal ends the renames half-way", "    with uninterrupted():", "    if True:"),
            Fault(
                "a lock is not checked to be the file's", "os.path.samestat(os.fstat(descriptor), path.stat())", "True"
            ),
            Fault("two processes write one file", "fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)", "pass"),
            Fault("what was written half stays", "temporary.unlink(missing_ok=True)", "pass"),
            Fault("what a killed process left stays", "os.truncate(descriptor, 0)", "pass"),
            Fault(
                "an input is replaced",
                "if final in (Path(one).resolve() for one in inputs",
                "if final in (one for one in inputs",
            ),
            Fault(
                "a link is replaced",
                "final = Path(path).resolve()  # a link",
                "final = Path(path).absolute()  # a link",
            ),
        ],
    ),
    Part(
        "training/fitting/working_points.py",
        "tests/training/fitting/test_working_points.py",
        [
            Fault("one event more exceeds a threshold", "min(above, len", "min(above + 1, len"),
            Fault("enough events are too few", ">= MIN_EVENTS_ABOVE", "> MIN_EVENTS_ABOVE"),
            Fault("the uncertainty is the whole distance", "return float(high - low) / 2", "return float(high - low)"),
            Fault("the uncertainty does not know the sample", "(1 - efficiency) / len(ordered))", "(1 - efficiency))"),
            Fault("garbage may be below a threshold", "if point.threshold >= floor:", "if point.threshold > floor:"),
        ],
    ),
    Part(
        "training/detectors/range.py",
        "tests/training/fitting/test_range.py",
        [
            Fault("negative masses are inside", "NOT_NEGATIVE = 2, (3, 4, 5, 6)", "NOT_NEGATIVE = 2, (4, 5, 6)"),
            Fault("a margin knows no tail", ".clamp(min=LEAST_MARGIN)", ".clamp(min=LEAST_MARGIN, max=LEAST_MARGIN)"),
            Fault("an edge is inside the training", "return largest[0], excess", "return largest[-1], excess"),
            Fault("a margin's end scores as the least event", "((most - least) or 1.0)", "1e-3"),
            Fault("momenta overflow", "return features.clamp(-MAX_MOMENTUM_GEV, MAX_MOMENTUM_GEV)", "return features"),
            Fault(
                "a value below the least of the training is inside",
                "torch.cat([seen, -seen], dim=1)",
                "torch.cat([seen, seen], dim=1)",
            ),
        ],
    ),
    Part(
        "training/evaluation/mistakes.py",
        "tests/training/evaluation/test_mistakes.py",
        [
            Fault("exchanged jets are right", "np.mean(pt[:, 1] > pt[:, 0])", "np.mean(pt[:, 1] > 1e9)"),
            Fault(
                "two columns of taus may be exchanged",
                "jets[..., 5:] > ROUNDING * jets[..., 4:6]",
                "jets[..., 5:6] > ROUNDING * jets[..., 4:5]",
            ),
            Fault(
                "another unit of masses alone is right", "for name, ratio in wrong.items():", "for name, ratio in ():"
            ),
        ],
    ),
    Part(
        "training/fitting/calibration.py",
        "tests/training/fitting/test_calibration.py",
        [
            Fault(
                "another calibration has the same version",
                "if model_version == metadata.model_version:",
                "if False:",
            ),
            Fault("the error is that of this sample", "/ point.calibration_events)", "/ len(scores))"),
        ],
    ),
    Part(
        "training/fitting/export.py",
        PARITY,
        [
            Fault(
                "parity is not checked for one event",
                "PARITY_BATCHES = (1, 2, 7, 4096)",
                "PARITY_BATCHES = (2, 7, 4096)",
            ),
            Fault(
                "parity is not checked for extreme events",
                "for size in PARITY_BATCHES), extreme_events(reference.features)):",
                "for size in PARITY_BATCHES),):",
            ),
            Fault("parity allows a thousandth", "PARITY_RTOL = 1e-4", "PARITY_RTOL = 2e-3"),
            Fault(
                "infinite scores are the same",
                " | ~np.isfinite(found)",
                "",
                f"{EXPORT}::test_a_score_that_is_no_number_is_refused",
            ),
            Fault(
                "golden pairs are the least anomalous events",
                "np.linspace(0, len(order) - 1, GOLDEN_PAIRS).astype(int)",
                "np.arange(GOLDEN_PAIRS)",
                f"{EXPORT}::test_golden_pairs_are_events_and_their_scores[density]",
            ),
            Fault(
                "the weights are the last ones",
                "scorer = run.best_scorer()",
                "scorer = run.scorer.eval()",
                "tests/training/fitting/test_export.py::test_the_graph_scores_as_torch_does[density]",
            ),
            Fault(
                "working points come from all events",
                "return features[split(len(features), run.config)[1]]",
                "return features",
                f"{EXPORT}::test_working_points_come_from_the_held_out_part",
            ),
            Fault(
                "other events than those of the training are taken",
                "if digest(features) != run.source.sha256:",
                "if False:",
                f"{EXPORT}::test_what_cannot_be_exported_is_explained",
            ),
        ],
    ),
    Part(
        "training/fitting/fit.py",
        "tests/training/fitting/test_fit.py::test_validation_has_the_same_draws_in_every_epoch",
        [
            Fault("validation has other draws in each epoch", "        torch.manual_seed(run.config.seed)\n", ""),
            Fault("validation changes the draws of the training", ", torch.random.fork_rng(devices=[]):", ":"),
            Fault(
                "the last weights are the best",
                "if run.epochs_since_best == 0:",
                "if True:",
                "tests/training/fitting/test_fit.py::test_the_best_weights_are_kept_and_training_stops_early",
            ),
            Fault(
                "a loss that is no number is learned from",
                "            _check_finite(epoch, config)\n",
                "",
                "tests/training/fitting/test_fit.py::test_a_loss_that_is_no_number_ends_the_training",
            ),
        ],
    ),
    Part(
        "training/evaluation/metrics.py",
        "tests/training/evaluation/test_metrics.py",
        [
            Fault("the error of a rejection is n / k", "/ kept**1.5)", "/ kept)"),
            Fault(
                "the error of a significance improvement is twice as large", "/ (2 * np.sqrt(kept))", "/ np.sqrt(kept)"
            ),
            Fault("background at the threshold is rejected", "(background >= threshold)", "(background > threshold)"),
            Fault("noise may be the largest improvement", ">= floor", ">= 1"),
            Fault("the error of an area has no signal", " + of_signal.var(ddof=1) / m", ""),
            Fault(
                "ties count in full",
                "ranks = rankdata(np.concatenate([background, signal]))",
                'ranks = rankdata(np.concatenate([background, signal]), "max")',
            ),
        ],
    ),
    Part(
        "training/events/hdf5.py",
        HDF5,
        [
            Fault("blocks may have different numbers of rows", "if len(rows) > 1:", "if False:"),
            Fault("rows that are not there are zeros", "require_stored(source.dataset)", "pass"),
            Fault(
                "rows beyond a slab are read again",
                "slab = source.read(names, first, last)",
                "slab = source.read(names, start, start + last - first)",
            ),
        ],
    ),
    Part(
        "training/events/pandas_layouts.py",
        HDF5,
        [
            Fault(
                "columns are swapped where the ends are equal",
                "list(indices) == list(range(first, last + 1))",
                "last - first == len(indices) - 1",
            ),
            Fault(
                "a block across is read as one down",
                'rows_axis = 0 if dataset.attrs.get("transposed") else 1',
                "rows_axis = 1",
            ),
            Fault("columns that the blocks do not have are listed", "if sorted(order) != sorted(dtypes):", "if False:"),
            Fault("dates are read as numbers", "return disguise or stored.name", "return stored.name"),
        ],
    ),
    Part(
        "training/events/labels.py",
        "tests/training/events/test_events.py -k label",
        [
            Fault("a file of labels may be too short", "if len(labels) != events:", "if len(labels) > events:"),
        ],
    ),
    Part(
        "training/jobs/manifest.py",
        "tests/training/jobs/test_manifest.py",
        [
            Fault("parts of other work are taken", "if found.get(name) != value:", "if False:"),
            Fault(
                "parts may be of unknown work",
                'if any(folder.glob("*.npy")):',
                'if any(folder.glob("*.npy")) and (folder / MANIFEST).exists():',
            ),
        ],
    ),
    Part(
        "training/jobs/part_files.py",
        "tests/training/jobs/test_parts.py::test_a_damaged_part_is_named",
        [Fault("a part of another length is read", "if len(rows) != events:", "if False:")],
    ),
    Part(
        "training/events/arrow.py",
        "tests/training/events/test_readers.py",
        [
            Fault("an earlier row is one that is held", "if start < self._first:", "if False:"),
            Fault("all that was read is held", "while self._held and self", "while False and self"),
            Fault(
                "a jet that is not there has no momentum at all",
                "compute.if_else(long, found, pa.scalar(0, found.type))",
                "found",
            ),
        ],
    ),
    Part(
        "training/events/columns.py",
        "tests/training/events/test_readers.py",
        [
            Fault("a formula has another's columns", "zip(needed, self", "zip(needed[::-1], self"),
            Fault("any function may be called", "if function in FUNCTIONS:", "if True:"),
            Fault("a column that was renamed is kept", "(*columns, *renamed.values())", "columns"),
        ],
    ),
    Part(
        "training/events/joined.py",
        "tests/training/events/test_readers.py",
        [Fault("the second table begins with the first", "first += frame.rows", "first += 0")],
    ),
    Part(
        "training/jobs/file_scoring.py",
        "tests/training/jobs/test_scored_folder.py",
        [
            Fault("outputs of another model or file count as done", "found.origin == origin and found.is", "found.is"),
            Fault("damaged outputs count as done", " and found.is_intact(output)", ""),
            Fault("long files have the scores of a part's first rows", "scores[first : first + len", "scores[0 : len"),
            Fault(
                "parts of another model are used", "self.model_sha256, self.layout, self.rows_per_part)", "self.layout)"
            ),
            Fault("a file may be scored by a model of later", "if scorer.artefact.sha256 != sha256:", "if False:"),
            Fault(
                "a full disk fails every file",
                "PartsError | ArtefactError) or (isinstance(error, OSError) and error.errno in NO_SPACE)",
                "PartsError | ArtefactError)",
                "tests/training/test_full_disk.py::test_many_files_end_with_the_first_that_finds_no_room",
            ),
        ],
    ),
    Part(
        "training/jobs/named_files.py",
        "tests/training/jobs/test_named_files.py",
        [
            Fault("two files have one output", "if other is not file:", "if False:"),
            Fault("a shard is none of them", "if match is None or not int", "if match is None or int"),
        ],
    ),
)
