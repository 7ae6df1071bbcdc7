-- For wrk: POST requests that are made in advance, and one line of JSON with the measured values.
-- arguments: path, JSON of a body in which %d is the number of an identifier, number of identifiers

local requests = {}

function init(arguments)
  local path, body, identifiers = arguments[1], arguments[2], tonumber(arguments[3])
  local headers = wrk.headers
  headers['Content-Type'] = 'application/json'
  for number = 1, identifiers do
    requests[number] = wrk.format('POST', path, headers, string.format(body, number))
  end
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
