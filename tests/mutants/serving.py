"""Faults of what is scored when, of connections and of the requests on them."""

from tests.mutants.fault import Fault, Part

ADMISSION = "tests/service/inference/test_admission.py"
BATCHING = "tests/service/inference/test_batching.py"
DEPLOYMENT = "tests/service/inference/test_deployment.py"
DRIFT = "tests/service/drift"
MONITOR = f"{DRIFT}/test_monitor.py"
FAIRNESS = "tests/service/inference/test_fairness.py"
HELD = "tests/service/server/test_held_connections.py"
CONNECTIONS = "tests/service/server/test_connections.py"
CLOCKS = "tests/service/server/test_clocks.py"
BUFFERS = "tests/service/server/test_buffers.py"
ROUTES = "tests/service/api/test_routes.py"
EXPLANATIONS = "tests/service/api/test_explanations.py"
SHORT_WAY = "tests/service/server/test_short_way.py"
BEHIND = f"{SHORT_WAY}::test_a_request_that_comes_with_the_rest_of_another_is_answered"
FULL = f"{SHORT_WAY}::test_a_request_without_room_is_refused_though_there_will_be_some"
PIECES = f"{SHORT_WAY}::test_a_body_in_many_short_pieces_comes_to_the_application"
ENDING = f"{SHORT_WAY}::test_a_request_that_ends_its_connection_does_so_each_time"
RELOADED = f"{SHORT_WAY}::test_what_is_known_of_a_head_ends_with_the_model_and_the_keys"
OTHER_WORK = f"{FAIRNESS}::test_batches_have_a_share_of_the_time_whatever_else_the_loop_does"
HALF_CLOSED = f"{HELD}::test_a_client_that_says_that_it_is_done_gets_its_responses"
NO_HTTP = "tests/service/server/test_bad_http.py::test_what_is_not_http_is_refused_and_hides_nothing"

SERVING = (
    Part(
        "service/inference/admission.py",
        f"{ADMISSION}::test_the_limits_are_of_events_and_of_bytes",
        [
            Fault("events are not limited", "self.events + more_events > self.max_events or ", ""),
            Fault("bytes are not limited", " or self.bytes + more_bytes > self.max_bytes", ""),
            Fault("a request that is alone is refused", "if admission.requests:", "if True:"),
            Fault("what grows is not checked", "admission.check(more_events, more_bytes)", "pass"),
            Fault("a request that has ended counts on", "admission.requests -= 1", "pass"),
            Fault("what has grown counts on", "self._bytes += more_bytes", "pass"),
            Fault("bytes in flight take no room from slow bodies", " or 2 * self.bytes > self.max_bytes", ""),
            Fault(
                "a cancelled request ends with the cancellation",
                "raise cancellation_error(error) from error",
                "raise error",
                f"{ADMISSION}::test_a_cancelled_request_ends_with_the_error_that_it_was_cancelled_with",
            ),
        ],
    ),
    Part(
        "service/inference/batching.py",
        f"{FAIRNESS} {BATCHING}",
        [
            Fault("a batch begins before single events that wait", " and not self._single_events.waiting:", ":"),
            Fault(
                "batches do not pause for single events",
                "self._single_events.waiting and perf_counter() - self._ended_s < self._ended_s - self._began_s",
                "False",
                FAIRNESS,
            ),
            Fault(
                "single events starve batches",
                " and perf_counter() - self._ended_s < self._ended_s - self._began_s",
                "",
                FAIRNESS,
            ),
            Fault(
                "single events wait for long pieces",
                "self.SHORT_PIECE_EVENTS if self._single_events.in_use else CHUNK_EVENTS",
                "max(len(rows), 1)",
            ),
            Fault(
                "a piece follows in the same iteration",
                "been submitted.\n        get_running_loop().call_soon(self._next)",
                "been submitted.\n        self._next()",
            ),
            Fault(
                "a cancelled batch is scheduled",
                "if not turn.done():  # its request",
                "if True:  # its request",
                BATCHING,
            ),
            Fault("rows of other clients fill a call", "self._rows[filled : self._stale] = 0", "pass", BATCHING),
            Fault("a cancelled event gets its score", "if receiver.done():", "if False:", BATCHING),
            Fault(
                "one event without a score fails all",
                "finite_scores(scores[start:end])",
                "finite_scores(scores)",
                DEPLOYMENT,
            ),
            Fault("scores that are not finite are given", "if finite.all():", "if True:", DEPLOYMENT),
        ],
    ),
    Part(
        "service/inference/deployment.py",
        DEPLOYMENT,
        [
            Fault(
                "as many events are explained as scored",
                "max(1, self.max_events // self.explainer.n_mixtures)",
                "self.max_events",
                EXPLANATIONS,
            ),
            Fault(
                "a large block is scored at once",
                "        if large:\n",
                "        if False:\n",
                FAIRNESS,
            ),
            Fault("all pieces of a block are scored at once", "if not fresh and not", "if False and not"),
            Fault("batches wait for ever for others", " and not self._scheduler.goes_on:", ":", OTHER_WORK),
            Fault(
                "a reload ends a drain",
                "self.metrics.use_model(scorer.artefact.identity)",
                'self.metrics.use_model(scorer.artefact.identity)\n        self.status = "ok"',
            ),
            Fault(
                "mixtures are observed", "BatchScores(explainer.scorer_of(event),", "BatchScores(self._scorer,", MONITOR
            ),
            Fault("an explained event is not counted", "self._note(event[None], of_mixtures[:1])", "pass", MONITOR),
            Fault(
                "batches leave single events no room",
                "Admission(settings.max_inflight_events, settings.max_inflight_bytes // 8)",
                "self.admission",
                f"{DEPLOYMENT}::test_batches_leave_room_for_single_events",
            ),
        ],
    ),
    Part(
        "service/drift/counts.py",
        f"{DRIFT}/test_counts.py",
        [
            Fault("the sample has rows of other events", "] = features[place]", "] = features[0]"),
            Fault("a thinned sample is regular", "int(random() * (2 * self._stride - 1))", "self._stride - 1"),
            Fault("the sample is never thinned", "self._n_since_tick // self._room + 1", "1"),
            Fault("the sample of many at once is of the first", "n_events // self._room + 1)", "1)"),
            Fault("the sample has no limit", "place < n_events and self._room", "place < n_events"),
            Fault("scores that are not finite count", "if not finite.all():", "if False:"),
            Fault(
                "another model goes on with the counts",
                'if row["counted_model"] != identity:',
                'if not row["counted_model"]:',
                MONITOR,
            ),
        ],
    ),
    Part(
        "service/drift/comparison.py",
        f"{DRIFT}/test_comparison.py",
        [
            Fault("chance is drift", "psi - self._chance(n_events)", "psi"),
            Fault("a value on an edge is below it", 'side="right"', 'side="left"'),
        ],
    ),
    Part(
        "service/api/native.py",
        ROUTES,
        [
            Fault("an explained event counts as one", "admit(model.explainer.n_mixtures,", "admit(1,", EXPLANATIONS),
            Fault("explained events count as they are", "grow(n_events * n_mixtures,", "grow(n_events,", EXPLANATIONS),
            Fault(
                "bytes of a batch in chunks do not count",
                "admitted.grow(reader.n_events, reader.n_bytes)",
                "admitted.grow(reader.n_events, 0)",
                f"{HELD}::test_a_batch_in_chunks_counts_while_it_arrives",
            ),
            Fault(
                "events of a batch in chunks do not count",
                "admitted.grow(reader.n_events, 0)\n",
                "pass\n",
                f"{ADMISSION}::test_short_numbers_do_not_get_round_the_limit",
            ),
            Fault(
                "a batch counts as its length in raw float32",
                "(head.request_format.feature_bytes * n_features)",
                "(4 * n_features)",
                f"{ADMISSION}::test_a_batch_counts_as_its_events_before_it_is_read",
            ),
            Fault(
                "a batch counts as whatever it says",
                "min(head.expected_events, head.announced_bytes // n_features)",
                "head.expected_events",
                f"{ADMISSION}::test_a_batch_counts_as_the_events_that_it_says_within_its_length",
            ),
            Fault(
                "a known head admits more events",
                "if len(rows) > n_admitted:",
                "if False:",
                f"{ADMISSION}::test_short_numbers_do_not_get_round_the_limit",
            ),
        ],
    ),
    Part(
        "service/api/bodies.py",
        ROUTES,
        [
            Fault(
                "bytes of a single event in chunks do not count",
                "admitted.grow(1, len(body))",
                "pass",
                f"{HELD}::test_an_event_in_chunks_counts_while_it_arrives",
            ),
            Fault(
                "a body in chunks has no limit",
                "check_body(n_bytes, max_bytes)\n        yield",
                "yield",
                "tests/service/server/test_bad_http.py::test_behind_a_body_that_is_too_long_is_the_next_request",
            ),
        ],
    ),
    Part(
        "service/api/unrouted.py",
        ROUTES,
        [
            Fault("the retry does not wait for a busy worker", "busy_s(monotonic()) if busy_s else 0.0", "0.0"),
            Fault(
                "connections above the limit score",
                "extensions is not None and OVERLOAD in extensions",
                "False",
                f"{ADMISSION}::test_a_connection_too_many_gets_a_503_and_health_is_answered",
            ),
        ],
    ),
    Part(
        "service/api/open_inference/http.py",
        "tests/service/api/open_inference/test_infer.py",
        [
            Fault("what a body is inflated to has no limit", "check_body(n_bytes, self.max_body_bytes)", "pass"),
            Fault(
                "the shape of the input is not compared with its numbers",
                "reader.check_count()",
                "pass",
                "tests/service/api/test_bad_input.py",
            ),
        ],
    ),
    Part(
        "service/api/open_inference/short_requests.py",
        SHORT_WAY,
        [
            Fault(
                "the text around an event is that of the one before",
                "known.text.read(body, rows, place)",
                "known.text.read(known.text.before + body[len(known.text.before) :], rows, place)",
                f"{SHORT_WAY}::test_the_text_before_an_event_is_read_each_time",
            ),
        ],
    ),
    Part(
        "service/formats/infer_documents.py",
        "tests/service/formats/test_infer_bodies.py",
        [
            Fault("any list called data is the input", "if tensors and bytes(tensors[-1].data) == PLACE:", "if True:"),
        ],
    ),
    Part(
        "service/formats/infer_reader.py",
        "tests/service/formats/test_infer_bodies.py",
        [
            Fault(
                "text behind the numbers is not bounded",
                'if len(data) > TEXT_BYTES:\n            raise InvalidRequestError(f"{TEXT_BYTES} bytes or',
                'if False:\n            raise InvalidRequestError(f"{TEXT_BYTES} bytes or',
            ),
        ],
    ),
    Part(
        "service/formats/compression.py",
        "tests/service/formats/test_compression.py",
        [
            Fault("bytes behind a compressed body are ignored", "if self._stream.unused_data:", "if False:"),
            Fault(
                "a compressed body may end early",
                "if last and not self._stream.eof:",
                "if False:",
                "tests/service/api/open_inference/test_infer.py",
            ),
        ],
    ),
    Part(
        "service/errors.py",
        ROUTES,
        [Fault("Retry-After is always 1", "str(RETRY_AFTER_S + int(busy_s))", "str(RETRY_AFTER_S)")],
    ),
    Part(
        "service/server/buffers.py",
        BUFFERS,
        [
            Fault(
                "bytes that wait to be parsed are not limited",
                "return self.n_bytes > self._max_bytes",
                "return False",
                f"{HELD}::test_more_bytes_than_may_wait_are_refused",
            ),
            Fault(
                "all slices are parsed in one iteration",
                "if perf_counter() > end_s:",
                "if False:",
            ),
            Fault(
                "responses that are not taken have no limit",
                "for one in self._responses) > self._max_bytes",
                "for one in ()) > self._max_bytes",
            ),
            Fault("the fastest client loses its response", "min(slow, key", "max(slow, key"),
            Fault("a response that was taken counts on", "self._responses.pop(transport, None)", "pass"),
            Fault(
                "a connection reads on while it holds bytes",
                "super().pause_reading()\n\n    def release",
                "pass\n\n    def release",
            ),
            Fault("reading that was paused goes on with the held bytes", "        if reads:\n", "        if True:\n"),
        ],
    ),
    Part(
        "service/server/connections.py",
        f"{HELD}::test_silent_connections_make_room",
        [
            Fault("connections that are not used make no room", "if n_more <= 0 or", "if True or"),
            Fault("the newest connections end first", "key=itemgetter(0))[", "key=itemgetter(0), reverse=True)["),
            Fault(
                "handshakes do not count",
                "self.n_starting + len(self._connections) - most",
                "len(self._connections) - most",
            ),
            Fault("handshakes make no room", "sorted(unused, key", "sorted(unused[len(starting) :], key"),
        ],
    ),
    Part(
        "service/server/timeouts.py",
        CLOCKS,
        [
            Fault("the time of a freeze counts", "frozen = self._interval_s > FROZEN_S", "frozen = False"),
            Fault(
                "clocks of requests do not begin anew",
                "self.message_s = self.request_s = self.received_s = self._unsent_s = self._linger_s = now_s",
                "self.message_s = self.received_s = self._unsent_s = self._linger_s = now_s",
            ),
            Fault(
                "an idle clock does not begin anew",
                "            self._idle_s = None\n        return frozen",
                "        return frozen",
            ),
            Fault("a body may arrive at any pace", "arrived * self._timeouts.request_s >= taken_s", "True"),
            Fault("a body has no time before its pace counts", " or taken_s <= PACE_GRACE_S", ""),
            Fault("a request may take for ever", "if now_s - self.request_s <= request_s:", "if True:"),
            Fault("a reader may sip", "(late or now_s", "(now_s"),
            Fault("a lingering close may go on without end", " or now_s - self._linger_s > LINGER_S", ""),
        ],
    ),
    Part(
        "service/server/protocol.py",
        NO_HTTP,
        [
            Fault(
                "reserved connections have no end",
                "if len(self.connections) > self._limits.connections + RESERVED_CONNECTIONS:",
                "if False:",
                f"{CONNECTIONS}::test_connections_above_the_limit_end_at_once_beyond_the_reserved_ones",
            ),
            Fault(
                "a client that is done is not answered",
                'if self.scheme == "https" or not self._answering:',
                "if True:",
                HALF_CLOSED,
            ),
            Fault(
                "a cut request of a client that is done is answered",
                "self.pipeline.popleft()  # the request read last, which will not be completed",
                "pass",
                HALF_CLOSED,
            ),
            Fault(
                "a half-closed connection lingers",
                "        if self._half_closed:\n",
                "        if False:\n",
                f"{HELD}::test_a_client_that_is_done_leaves_no_connection_behind",
            ),
            Fault(
                "slow bodies make no room",
                "full or self._shared.deployment.more_than_half_full",
                "full",
                f"{HELD}::test_a_body_too_slow_to_be_whole_in_time_makes_room",
            ),
        ],
    ),
    Part(
        "service/server/known_heads.py",
        SHORT_WAY,
        [
            Fault(
                "heads outlive the model and the keys",
                "self._model is not self._deployment.current or self._valid_keys is not keys",
                "self._model is None",
                RELOADED,
            ),
            Fault("heads outlive the keys", " or self._valid_keys is not keys", "", RELOADED),
            Fault("heads outlive the model", "self._model is not self._deployment.current or ", "", RELOADED),
            Fault(
                "a head with an id that is ignored is known",
                "blank.lower().count(ID_START) != (request_id is not None)",
                "False",
                f"{SHORT_WAY}::test_ids_make_no_head_be_forgotten",
            ),
            Fault(
                "the id of a known head is not sent back",
                "known.response_head + id_header(request_id)",
                "known.response_head",
                f"{SHORT_WAY}::test_each_request_has_its_own_id",
            ),
            Fault(
                "zero bytes in a head stand for an id",
                r'b"%b\r\n\r\n%d%b" % (head[: line.start(1)], len(line[1]), head[line.end(1) :])',
                "head[: line.start(1)] + bytes(len(line[1])) + head[line.end(1) :]",
                "tests/service/api/test_request_id.py::test_no_other_bytes_stand_for_an_id",
            ),
            Fault("heads are kept for ever", "if len(self._heads) == MAX_HEADS:", "if False:"),
            Fault("a head whose request ends the connection is known", "or not cycle.keep_alive ", "", ENDING),
        ],
    ),
    Part(
        "service/server/short_way.py",
        SHORT_WAY,
        [
            Fault("the room of a request is not given back", "        self.release()\n", "        pass\n"),
            Fault("a client that leaves is not counted", "STATUSES[ClientDisconnectedError], 0)", "200, 0)"),
            Fault("a request behind another one is part of its body", "> known.body_bytes or", "< 0 or", BEHIND),
            Fault("what comes behind a body is part of it", "if missing_bytes < 0 or", "if", BEHIND),
            Fault("what finds no room goes the long way", "            self._overload = str(error)\n", "", FULL),
            Fault(
                "nothing is known",
                "                if self._begin(known, data, n_head_bytes):",
                "                if False:",
            ),
            Fault(
                "short pieces are kept", " or len(self.data) >= FEW_PIECES + n_bytes // SHORT_PIECE_BYTES", "", PIECES
            ),
            Fault("events of the short way are not counted", "(exchange, 200, len(scores))", "(exchange, 200, 0)"),
        ],
    ),
    Part(
        "service/server/request_parser.py",
        NO_HTTP,
        [
            Fault("headers have no number", "if len(self.headers) == MAX_HEADERS:", "if False:"),
            Fault("any Transfer-Encoding is taken", 'if value.lower() != b"chunked" or', "if"),
            Fault(
                "a head in many pieces has no limit",
                "self._limits.check_header_bytes(self._stalled_bytes, part)",
                "pass",
            ),
        ],
    ),
    Part(
        "service/server/limits.py",
        NO_HTTP,
        [
            Fault("URLs have no limit", "if len(url) > self.url_bytes:", "if False:"),
            Fault("heads have no limit", "if n_bytes > self.header_bytes:", "if False:"),
            Fault("only the start of a Host header is checked", "HOST.fullmatch(value)", "HOST.match(value)"),
        ],
    ),
)
