#!lua flags=no-writes,allow-stale
-- Returns every field of INFO ratelimit and its number, for redis_exporter -script. INFO all, which
-- redis_exporter reads by itself, leaves out the sections of modules.
local metrics = {}
for field, number in string.gmatch(redis.call("INFO", "ratelimit"), "(ratelimit_[%w_]+):(%d+)") do
    table.insert(metrics, field)
    table.insert(metrics, number)
end
return metrics
