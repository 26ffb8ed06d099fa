#!/usr/bin/env bash
# Score events with curl, in every format.
#   http.sh http://localhost:8000
set -euo pipefail
url=${1:-http://localhost:8000}
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT

event='[-1205.6, 641.3, 88.1, 212.4, 160.2, 58.1, 33.0, 1188.2, -655.9, 402.7, 95.3, 41.8, 25.7, 18.2]'

echo "health: $(curl -sf "$url/health")"
echo "one event: $(curl -sf "$url/score" -H 'content-type: application/json' -d "{\"features\": $event}")"
echo "a batch: $(curl -sf "$url/score/batch?working_point=loose" -H 'content-type: application/json' \
    -d "{\"events\": [$event, $event]}")"

# Raw float32 rows in, JSON out.
python3 -c "import struct, sys; sys.stdout.buffer.write(struct.pack('<14f', *$event))" > "$work/event.bin"
echo "raw: $(curl -sf "$url/score/batch" -H 'content-type: application/octet-stream' -H 'accept: application/json' \
    --data-binary "@$work/event.bin")"

# Decisions alone, one byte an event: 1 where its score is above the threshold of the working point.
echo "decisions:$(curl -sf "$url/score/batch?working_point=loose" -H 'content-type: application/octet-stream' \
    -H 'accept: application/octet-stream; dtype=bool' --data-binary "@$work/event.bin" | od -An -t u1)"

# A wrong request gets a 4xx with a message.
echo "wrong: $(curl -s "$url/score/batch" -H 'content-type: application/json' -d '{"events": [[1, 2, 3]]}')"

# Repeat a request that was refused: curl waits for the seconds of Retry-After.
echo "with retries: $(curl -sf --retry 5 --retry-all-errors "$url/score" -H 'content-type: application/json' \
    -d "{\"features\": $event}")"
