/** `http-proxy`, with connections that are kept; without an agent it opens one for each request. */
import * as Http from "node:http"
import HttpProxy from "http-proxy"
import { sockets } from "../Work.ts"
import { listen } from "./Listening.ts"
import type { Subject } from "./Subject.ts"

export const subject: Subject = (upstream) => {
  const agent = new Http.Agent({ keepAlive: true, maxSockets: sockets })
  const proxy = HttpProxy.createProxyServer({ target: upstream, agent, xfwd: true })
  proxy.on("error", (_, __, response) => response.end())
  return listen(Http.createServer((request, response) => proxy.web(request, response)))
}
