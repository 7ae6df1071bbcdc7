// Takes a unit from a cluster with the package redis.
//
// usage: node node_redis.mjs PORT KEY

import { createCluster } from "redis";

const [port, key] = process.argv.slice(2);
const client = createCluster({
  rootNodes: [{ url: `redis://127.0.0.1:${port}` }],
  defaults: { keyPrefix: "app:", socket: { socketTimeout: 1000 } },
});
client.on("error", (error) => console.error(error.message));
await client.connect();
console.log((await client.sendCommand(key, false, ["RATELIMIT.TB", key, "3", "60"])).join(" "));
client.destroy();
