import type { IncomingMessage, ServerResponse } from "node:http";

/** The values by which policies match and identify a request. `undefined` leaves one out. */
export type Attributes = Record<string, string | number | boolean | undefined>;

export interface Options<Request extends IncomingMessage = IncomingMessage> {
  /** The URL of the gateway. */
  url: string;
  /** While the gateway does not decide: `true` serves every request, `false` answers 503. */
  failOpen: boolean;
  /** Returns the attributes of a request; by default {@link requestAttributes}. */
  attributes?: (request: Request) => Attributes;
  /** The key of this application, if the gateway asks callers for keys. */
  apiKey?: string;
  /** Milliseconds for the whole check; 250 by default. */
  timeoutMs?: number;
  /** Receives the error of a check that failed; by default it is written to the console. */
  onFailure?: (error: unknown) => void;
}

/** Returns middleware for Express and node:http that limits requests. */
export function rateLimit<Request extends IncomingMessage = IncomingMessage>(
  options: Options<Request>,
): (request: Request, response: ServerResponse, next: (error?: unknown) => void) => Promise<void>;

/** Returns the address of the socket, the method and the path of a request. */
export function requestAttributes(request: IncomingMessage): Attributes;
