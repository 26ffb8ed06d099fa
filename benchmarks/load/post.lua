-- Posts one body over and over, and prints what came back as one line of JSON; benchmarks/load/wrk.py runs it.
--     wrk ... --script post.lua URL -- BODY_FILE

function init(arguments)
   local file = assert(io.open(arguments[1], "rb"))
   wrk.method = "POST"
   wrk.body = file:read("*all")
   file:close()
end

function done(summary, latency, _)
   local errors = summary.errors
   print(string.format(
      'result {"requests": %d, "seconds": %.6f, "p50_ms": %.3f, "p99_ms": %.3f, "p999_ms": %.3f, "max_ms": %.3f, ' ..
      '"non_2xx": %d, "errors": %d, "bytes_read": %d}',
      summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
      latency:percentile(99.9) / 1e3, latency.max / 1e3,
      errors.status, errors.connect + errors.read + errors.write + errors.timeout, summary.bytes))
end
