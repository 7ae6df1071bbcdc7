"""Asks every primary of a cluster which keys are denied, with redis-py.

usage: redis_py_top.py PORT
"""

import sys

from redis.cluster import RedisCluster

client = RedisCluster(host="127.0.0.1", port=int(sys.argv[1]))
answers = client.execute_command("RATELIMIT.TOP", target_nodes=client.get_primaries())
print(*sorted(key.decode() for top in answers.values() for key, denials in top))
