-- The same token bucket as a script, for comparison: KEYS[1], limit, window in seconds, cost.
-- The state is a hash of the used units and their time; time is the server's.
local limit, window, cost = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1e6
local state = redis.call('HMGET', KEYS[1], 'used', 'time')
local used = tonumber(state[1]) or 0
used = math.max(0, used - (now - (tonumber(state[2]) or now)) * limit / window)
if used + cost > limit then
  local retry = (used + cost - limit) * window / limit
  return {0, limit, math.floor(limit - used), math.ceil(retry * 1e3), math.ceil(used * window / limit * 1e3)}
end
used = used + cost
local reset = math.ceil(used * window / limit * 1e3)
redis.call('HSET', KEYS[1], 'used', used, 'time', now)
redis.call('PEXPIRE', KEYS[1], reset)
return {cost, limit, math.floor(limit - used), 0, reset}
