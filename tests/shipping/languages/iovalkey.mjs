// Takes a unit from a cluster with iovalkey.
//
// usage: node iovalkey.mjs PORT KEY

import { Cluster } from "iovalkey";

const [port, key] = process.argv.slice(2);
const client = new Cluster([{ host: "127.0.0.1", port }], {
  retryDelayOnFailover: 0,
  keyPrefix: "app:",
});
client.on("error", (error) => console.error(error.message));
console.log((await client.call("RATELIMIT.TB", key, 3, 60)).join(" "));
client.disconnect();
