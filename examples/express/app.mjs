// An Express application whose requests are limited by the policies of a gateway.

import { rateLimit } from "@ratelimit/ratelimit-gateway-client";
import express from "express";

const { FAIL_OPEN, PORT = "3000", RATELIMIT_API_KEY, RATELIMIT_URL } = process.env;
if (FAIL_OPEN !== "true" && FAIL_OPEN !== "false") throw new Error("set FAIL_OPEN to true or false");

const app = express();
app.use(
  rateLimit({
    url: RATELIMIT_URL ?? "http://localhost:8000",
    // While the gateway does not decide: true serves every request, and false answers 503.
    failOpen: FAIL_OPEN === "true",
    apiKey: RATELIMIT_API_KEY,
  }),
);
app.get("/", (_request, response) => response.json({ hello: "world" }));
app.listen(Number(PORT), "127.0.0.1");
