-- The sliding window log as a script, for comparison: KEYS[1], limit, window in seconds, cost.
-- State is a sorted set with a member for each unit, scored by its time; time is the server's, in
-- microseconds.
local limit, window, cost = tonumber(ARGV[1]), tonumber(ARGV[2]) * 1e6, tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1e6 + time[2]
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - window)
local used = redis.call('ZCARD', KEYS[1])
local reset = 0
if used + cost > limit then
  -- The units that must leave are the oldest; the whole quota is back when the newest has left.
  local last = redis.call('ZRANGE', KEYS[1], used + cost - limit - 1, used + cost - limit - 1,
    'WITHSCORES')
  local newest = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')
  local retry = last[2] and math.ceil((last[2] + window - now) / 1e3) or -1
  if newest[2] then
    reset = math.ceil((newest[2] + window - now) / 1e3)
  end
  return {0, limit, limit - used, retry, reset}
end
-- Two calls may be made within the same microsecond.
local member, added, twin = string.format('%.0f', now), 0, 0
while added < cost do
  added = added + redis.call('ZADD', KEYS[1], 'NX', now, twin == 0 and member or member .. ':' .. twin)
  twin = twin + 1
end
reset = math.ceil(window / 1e3)
redis.call('PEXPIRE', KEYS[1], reset)
return {cost, limit, limit - used - cost, 0, reset}
