-- Posts one body over and over, and prints what came back as one line of JSON; benchmarks/wrk.py runs it.
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
      'result {"requests": %d, "microseconds": %d, "bytes": %d, "latency_us": {"p50": %d, "p99": %d, "p999": %d, "max": %d}, ' ..
      '"errors": {"connect": %d, "read": %d, "write": %d, "timeout": %d, "status": %d}}',
      summary.requests, summary.duration, summary.bytes,
      latency:percentile(50), latency:percentile(99), latency:percentile(99.9), latency.max,
      errors.connect, errors.read, errors.write, errors.timeout, errors.status))
end
