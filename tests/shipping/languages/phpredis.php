<?php
// Takes a unit from a cluster with phpredis.
//
// usage: php phpredis.php PORT KEY

[, $port, $key] = $argv;
$client = new RedisCluster(null, ["127.0.0.1:$port"], 5.0, 5.0);
$client->setOption(Redis::OPT_PREFIX, 'app:');
$reply = $client->rawCommand($key, 'RATELIMIT.TB', $client->_prefix($key), 3, 60);
if ($reply === false) {
    throw new RedisException($client->getLastError());
}
echo implode(' ', $reply), "\n";
