-- For wrk: requests that are made in advance, and one line of JSON with the measured values.
-- argument: a file of requests, each behind a line with its length in bytes

local requests = {}

function init(arguments)
  local file = assert(io.open(arguments[1], 'rb'))
  for length in file:lines() do
    requests[#requests + 1] = file:read(tonumber(length))
  end
  file:close()
end

function request()
  return requests[math.random(#requests)]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '{"requests":%d,"micros":%d,"p50":%d,"p95":%d,"p99":%d,"status":%d,"broken":%d}\n',
    summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(95), latency:percentile(99), errors.status,
    errors.connect + errors.read + errors.write + errors.timeout))
end
