export { rateLimit, requestAttributes } from "./index.cjs";
