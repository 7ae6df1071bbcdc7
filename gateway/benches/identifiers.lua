-- For wrk: checks for random identifiers, and one line of JSON with the measured values.
-- arguments: algorithm, number of identifiers

local algorithm, identifiers

function init(arguments)
  algorithm, identifiers = arguments[1], tonumber(arguments[2])
  wrk.method = 'POST'
  wrk.path = '/rate-limit/check'
  wrk.headers['Content-Type'] = 'application/json'
end

function request()
  return wrk.format(nil, nil, nil, string.format(
    '{"identifier":"user_%d","algorithm":"%s","limit":1000000,"window_seconds":3600}',
    math.random(identifiers), algorithm))
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '{"requests":%d,"micros":%d,"p50":%d,"p95":%d,"p99":%d,"status":%d,"broken":%d}\n',
    summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(95), latency:percentile(99), errors.status,
    errors.connect + errors.read + errors.write + errors.timeout))
end
