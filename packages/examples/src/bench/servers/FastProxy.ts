/** `fast-proxy` in its faster form: by undici. */
import * as Http from "node:http"
import fastProxy from "fast-proxy"
import { sockets } from "../Work.ts"
import { listen } from "./Listening.ts"
import type { Subject } from "./Subject.ts"

export const subject: Subject = (upstream) => {
  const { proxy } = fastProxy({ base: upstream, undici: { connections: sockets, pipelining: 1 } })
  return listen(Http.createServer((request, response) => proxy(request, response, request.url ?? "/", {})))
}
