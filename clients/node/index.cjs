"use strict";

// Checks of the gateway: one request, one time-out for the whole check, no retry. A check is never
// sent again, because the gateway may have counted it.

/** Headers of the gateway's answer that are for the end user. */
const HEADERS = [
  "RateLimit-Policy",
  "RateLimit",
  "X-RateLimit-Limit",
  "X-RateLimit-Remaining",
  "X-RateLimit-Reset",
  "Retry-After",
];

function rateLimit({
  url,
  failOpen,
  attributes = requestAttributes,
  apiKey,
  timeoutMs = 250,
  onFailure = (error) => console.warn(`the rate limit check failed: ${error.cause ?? error}`),
}) {
  if (typeof failOpen !== "boolean") {
    throw new TypeError(
      "failOpen must be true (serve requests while the gateway does not decide) or false (answer 503)",
    );
  }
  const checkUrl = new URL(`${url.replace(/\/+$/, "")}/rate-limit/check`);
  const headers = { "Content-Type": "application/json", ...(apiKey && { "X-API-Key": apiKey }) };

  // fetch keeps one pool of connections for the process. The signal ends the read of the body too.
  async function check(body) {
    const signal = AbortSignal.timeout(timeoutMs);
    const request = { method: "POST", headers, body, signal, redirect: "error" };
    const answer = await fetch(checkUrl, request);
    return verdict(answer, await answer.text());
  }

  return async function rateLimitMiddleware(request, response, next) {
    let decision;
    try {
      const body = JSON.stringify({ attributes: attributes(request) });
      decision = await check(body).catch((error) => {
        onFailure(error);
        return failOpen ? { status: 200 } : { status: 503, headers: [["Retry-After", "1"]] };
      });
    } catch (error) {
      return next(error);
    }
    for (const [name, value] of decision.headers ?? []) response.setHeader(name, value);
    if (decision.status === 200) return next();
    response.statusCode = decision.status;
    response.end();
  };
}

function requestAttributes(request) {
  const [path] = (request.originalUrl ?? request.url).split("?", 1);
  // A link-local IPv6 address has the name of an interface after the percent sign.
  const address = request.socket.remoteAddress?.split("%", 1)[0];
  return { "client.ip": address, method: request.method, path };
}

/** Returns the decision in an answer of the gateway. Throws if the answer is no decision. */
function verdict(answer, text) {
  // These faults are in values of the end user, who must not escape the limit by them.
  if (answer.status === 400 || answer.status === 413) return { status: 400 };
  // An answer with status 429 can also be about the limit of this application as a caller.
  if (answer.status === 200 || answer.status === 429) {
    const allowed = JSON.parse(text)?.allowed;
    if (typeof allowed === "boolean") {
      const headers = HEADERS.map((name) => [name, answer.headers.get(name)]);
      const given = headers.filter(([, value]) => value !== null);
      return { status: allowed ? 200 : 429, headers: given };
    }
  }
  throw new Error(`the gateway answered with status ${answer.status}`);
}

module.exports = { rateLimit, requestAttributes };
