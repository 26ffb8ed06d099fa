"""Faults of the files that a service reads: models, keys, certificates, and the bodies of requests."""

from tests.mutants.fault import Fault, Part

ARTEFACT = "tests/service/model/test_artefact.py"
MODEL_FILE = "tests/service/model/test_model_file.py"
SCORER = "tests/service/model/test_scorer.py"
EXPLANATION = "tests/service/model/test_explanation.py"
ROWS = "tests/service/model/test_rows.py"
API_KEYS = "tests/service/security/test_api_keys.py"
TLS = "tests/service/security/test_tls.py"
MIDDLEWARE = "tests/service/api/test_middleware.py"
BAD_BATCHES = "tests/service/formats/test_bad_batches.py"
BATCHES = "tests/service/formats/test_batches.py"
LONG_BODIES = "tests/service/formats/test_long_bodies.py"
VERIFICATION = "tests/service/reload/test_verification.py"
CONSTANT_TIME = f"{API_KEYS}::test_a_key_is_compared_with_all_in_constant_time"

FILES = (
    Part(
        "service/model/artefact.py",
        f"{MODEL_FILE} -k 'seal or bit or kinds or limit or digest'",
        [
            Fault("a damaged file is used", "if found != seal:", "if False:"),
            Fault("a damaged seal makes an older file", "if SEAL.encode() in file:", "if False:"),
            Fault("any size is read", "if status.st_size > max_bytes:", "if False:"),
            Fault("a pipe is waited for", "flags | os.O_NONBLOCK", "flags"),
            Fault(
                "a score at the threshold is accepted",
                "scores.astype(np.float64) > self.",
                "scores.astype(np.float64) >= self.",
                ARTEFACT,
            ),
            Fault(
                "clients decide otherwise by the threshold",
                "max(float(largest), float(str(largest)))",
                "float(largest)",
                ARTEFACT,
            ),
            Fault("a text may hold line breaks", " or not text.isprintable()", "", ARTEFACT),
        ],
    ),
    Part(
        "service/model/scorer.py",
        SCORER,
        [
            Fault("golden scores need not be reproduced", "for event in np.flatnonzero(~close):", "for event in ():"),
            Fault(
                "golden scores are not those of a chunk",
                "(len(events), max(len(events), CHUNK_EVENTS))",
                "(len(events),)",
                MODEL_FILE,
            ),
            Fault("a graph may mix events", "            self._require_independence()\n", ""),
            Fault("events are mixed with zeros alone", "(*FOREIGN_FEATURES, np", "(0.0, np"),
            Fault("a score depends on its batch", "if n_events % VECTOR_EVENTS:", "if False:"),
        ],
    ),
    Part(
        "service/model/explanation.py",
        EXPLANATION,
        [
            Fault("anomalous events are references", "scores <= min(", "scores != min("),
            Fault("events that are made up are references", "ordinary &= (", "ordinary |= ("),
            Fault(
                "features change in the order of their names",
                "np.bincount(self._orders.ravel()",
                "np.bincount(np.sort(self._orders).ravel()",
            ),
            Fault(
                "half of the way to the event is missing", "path[..., -1] = scores[0]", "path[..., -1] = path[..., -2]"
            ),
            Fault(
                "a feature of the reference counts as the event's",
                "places < np.arange(1, n_features)",
                "places > np.arange(1, n_features)",
            ),
        ],
    ),
    Part(
        "service/model/rows.py",
        ROWS,
        [
            Fault("what is no number is scored", "if not finite.all():", "if False:"),
            Fault("columns are taken by their places", "return frame[list(names)]", "return frame"),
            Fault("text is converted", 'if given.dtype.kind not in "iuf":', "if False:"),
        ],
    ),
    Part(
        "service/model/graph.py",
        MODEL_FILE,
        [
            Fault("custom operators are taken", "if message.domain not in STANDARD_DOMAINS:", "if False:"),
            Fault(
                "other files are read",
                "message.data_location == onnx.TensorProto.EXTERNAL or message.external_data",
                "False",
            ),
            Fault(
                "random operators are taken",
                "determinism == onnx.defs.OpSchema.NodeDeterminism.NonDeterministic",
                "False",
            ),
        ],
    ),
    Part(
        "service/security/api_keys.py",
        API_KEYS,
        [
            Fault("keys are compared with ==", "hmac.compare_digest(known, digest)", "known == digest", CONSTANT_TIME),
            Fault(
                "the look-up ends at the key that fits",
                "                owner = name\n",
                "                return name\n",
                CONSTANT_TIME,
            ),
            Fault("the start of a digest is enough", "DIGEST.fullmatch(digest)", "DIGEST.match(digest)"),
            Fault("a key may be there twice", "if digest in lines:", "if False:"),
            Fault(
                "two commands lose a key",
                "fcntl.flock(opened, fcntl.LOCK_EX)",
                "pass",
                f"{API_KEYS}::test_keys_added_at_once_are_all_there",
            ),
            Fault("keys are not on the disk before the rename", "os.fsync(aside.fileno())", "pass"),
            Fault("a file of keys changes its mode", "os.fchmod(aside.fileno(), mode)", "pass"),
        ],
    ),
    Part(
        "service/security/tls.py",
        TLS,
        [
            Fault(
                "old versions of TLS are spoken",
                "context.minimum_version = ssl.TLSVersion.TLSv1_2",
                "context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED",
            ),
            Fault(
                "clients need no certificate",
                "context.verify_mode = ssl.CERT_REQUIRED",
                "context.verify_mode = ssl.CERT_OPTIONAL",
            ),
            Fault("renegotiation is allowed", "context.options |= ssl.OP_NO_RENEGOTIATION", "pass"),
        ],
    ),
    Part(
        "service/api/middleware.py",
        MIDDLEWARE,
        [
            Fault(
                "paths that start like the public one need no key",
                'scope["path"] not in PUBLIC_PATHS',
                'not scope["path"].startswith(PUBLIC_PATHS)',
            ),
            Fault("an unknown key is let in", "    if owner is None:", "    if False:"),
        ],
    ),
    Part(
        "service/reload/verification.py",
        VERIFICATION,
        [
            Fault(
                "a model with other features is loaded",
                "if len(new.feature_names) != len(in_use.feature_names):",
                "if False:",
            ),
            Fault("a model with another order is loaded", "        if found != expected:\n", "        if False:\n"),
            Fault("a model without the working points is loaded", "if point.name not in names:", "if False:"),
        ],
    ),
    Part(
        "service/reload/watcher.py",
        "tests/service/reload/test_watcher.py",
        [
            Fault(
                "a SIGHUP during a read is forgotten",
                "self._read_again.add(kind)",
                "pass",
                "tests/service/reload/test_watcher.py::test_a_removed_key_does_not_wait_for_a_model[1]",
            ),
            Fault(
                "any digest is loaded",
                "if pinned not in {None, digest}:",
                "if False:",
                "tests/service/reload/test_watcher.py::test_a_pinned_digest_refuses_other_files",
            ),
            Fault(
                "a reload may change the inputs",
                "None if self._settings.reload_any_model else self.snapshot.settings.model",
                "None",
                "tests/service/reload/test_watcher.py::test_a_model_with_other_inputs_is_refused[1]",
            ),
        ],
    ),
    Part(
        "service/reload/applier.py",
        "tests/service/reload/test_watcher.py::test_a_model_with_other_inputs_is_refused[1]",
        [
            Fault("a refused file is a success", " and kind not in snapshot.refused", ""),
            Fault(
                "keys wait for the model",
                "for kind in snapshot.file_revisions:\n            if kind",
                "for kind in list(snapshot.file_revisions)[:1]:\n            if kind",
                "tests/service/reload/test_snapshot.py",
            ),
        ],
    ),
    Part(
        "service/reload/snapshot.py",
        "tests/service/reload/test_snapshot.py",
        [Fault("a copy can be changed", "SEALS: Final = fcntl.F_SEAL_WRITE | ", "SEALS: Final = ")],
    ),
    Part(
        "service/formats/format.py",
        f"{BATCHES} {BAD_BATCHES}",
        [
            Fault("numbers that are not finite are scored", "if not np.isfinite(place).all():", "if False:"),
            Fault("a batch has any number of events", "if n_events > self._max_events:", "if False:", LONG_BODIES),
            Fault("a block is given again", "                self._filled = 0\n", ""),
            Fault(
                "a fault is named by its row in the piece",
                '"events", self._names, self._read)',
                '"events", self._names)',
            ),
        ],
    ),
    Part(
        "service/formats/npy.py",
        f"{BATCHES} {BAD_BATCHES}",
        [
            Fault("an array of any length is read", "if held != self.array_bytes:", "if False:"),
            Fault("columns are read as rows", 'order="F")', 'order="C")'),
        ],
    ),
    Part(
        "service/formats/json.py",
        f"{BATCHES} {BAD_BATCHES}",
        [
            Fault(
                "a second key of an event is not seen",
                "if body.rfind(b'\"') < FIRST_KEY_BYTES:",
                "if True:",
                "tests/service/api/test_bad_input.py",
            ),
            Fault("a second key of a batch is not seen", "if AGAIN.match(rest) and not self._end:", "if False:"),
            Fault(
                "what follows a batch is not seen", "if rest or (last and not self._end):", "if last and not self._end:"
            ),
            Fault(
                "pieces of a response have no comma between",
                'comma = b","',
                'comma = b""',
                "tests/service/formats/test_scores.py",
            ),
        ],
    ),
    Part(
        "service/formats/msgpack.py",
        f"{BATCHES} {BAD_BATCHES}",
        [
            Fault("rows that are written otherwise are read alike", "starts.all() and tags.all()", "True"),
            Fault("what follows a batch is not seen", "if self._rest and not self._rows_left:", "if False:"),
            Fault("a batch that ends early is scored", "if last and self._rows_left:", "if False:"),
        ],
    ),
    Part(
        "service/formats/raw.py",
        f"{BATCHES} {BAD_BATCHES}",
        [Fault("part of an event is left out", "if n_bytes % event_bytes:", "if False:")],
    ),
)
