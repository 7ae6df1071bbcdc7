# Takes a unit from a cluster with redis-rb.
#
# usage: ruby redis_rb.rb PORT KEY

require "redis"

port, key = ARGV
client = Redis.new(cluster: ["redis://127.0.0.1:#{port}"], reconnect_attempts: 0)
puts client.call("RATELIMIT.TB", key, 3, 60).join(" ")
