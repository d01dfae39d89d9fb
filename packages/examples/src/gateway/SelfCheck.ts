/** A few requests, as clients and operators make them: prints what was answered, fails where it is not what it should be. */
import type { ServerPool } from "@millrace/core"
import { Console, Data, Effect } from "effect"
import * as Http from "node:http"
import * as Https from "node:https"
import type { Certificate } from "./Certificate.ts"

class CheckFailed extends Data.TaggedError("CheckFailed")<{ readonly message: string }> {}

interface Answer {
  readonly status: number
  readonly text: string
}

const get = (url: URL, host: string, { cert }: Certificate) =>
  Effect.tryPromise({
    try: (signal) =>
      new Promise<Answer>((resolve, reject) => {
        const options = { agent: false, headers: { host }, signal } as const
        const answered = (response: Http.IncomingMessage) => {
          let text = ""
          response.setEncoding("utf8")
          response.on("data", (chunk: string) => (text += chunk))
          response.on("end", () => resolve({ status: response.statusCode ?? 0, text }))
          response.on("error", reject)
        }
        const request =
          url.protocol === "https:"
            ? Https.get(url, { ...options, ca: cert, servername: "localhost" }, answered)
            : Http.get(url, options, answered)
        request.on("error", reject)
      }),
    catch: (cause) => new CheckFailed({ message: `${url.href}: ${String(cause)}` })
  })

const checks = [
  { server: "public", path: "/users/7", status: 200, has: "user 7" },
  { server: "public", path: "/orders", status: 200, has: "total" },
  { server: "public", host: "assets.localhost", path: "/site.css", status: 200, has: "teal" },
  { server: "public", path: "/nothing", status: 404, has: "" },
  { server: "public", path: "/orders/broken", status: 500, has: "" },
  { server: "admin", path: "/health", status: 200, has: "ready" },
  { server: "admin", path: "/metrics", status: 200, has: "millrace_server_requests_total" },
  { server: "admin", path: "/stats", status: 200, has: '"services"' },
  { server: "admin", path: "/users/7", status: 404, has: "" }
] as const

export const run = (pool: ServerPool.ServerPool, certificate: Certificate) =>
  Effect.gen(function* () {
    const servers = new Map((yield* pool.servers).map((server) => [server.name, server]))
    yield* Effect.forEach(checks, ({ has, path, server, status, ...rest }) =>
      Effect.gen(function* () {
        const url = new URL(path, servers.get(server)?.expose)
        const host = "host" in rest ? rest.host : url.host
        const answer = yield* get(url, host, certificate)
        yield* Console.log(`GET ${host}${path}: ${answer.status}`)
        if (answer.status === status && answer.text.includes(has)) return
        return yield* new CheckFailed({ message: `${host}${path}: ${answer.status} ${answer.text}` })
      })
    )
    yield* Console.log(`${checks.length} requests were answered as they should be`)
  })
