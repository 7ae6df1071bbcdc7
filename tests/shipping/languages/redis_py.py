"""Takes a unit from a cluster with redis-py.

usage: redis_py.py PORT KEY
"""

import sys

from redis.backoff import NoBackoff
from redis.cluster import RedisCluster
from redis.retry import Retry

port, key = sys.argv[1:]
client = RedisCluster(host="127.0.0.1", port=int(port), retry=Retry(NoBackoff(), 0))
print(*client.execute_command("RATELIMIT.TB", key, 3, 60))
