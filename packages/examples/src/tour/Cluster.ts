/**
 * Instances of a service: HTTP servers on loopback that answer every request with their own name, in the body
 * (`{"instance":"ash"}`) and in the header `x-instance`. What else they do with requests is for `reply` to say; all of
 * them ask the same one, as replicas share a database.
 *
 * An instance is alive (it has a port) or dead. `kill` is abrupt, as when a process gets SIGKILL: no answer is finished
 * and all of its connections are reset. `start` gives a dead instance a new life on a new port, as a replaced pod has.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { createServer, type IncomingMessage, type OutgoingHttpHeaders, type Server } from "node:http"
import type { Socket } from "node:net"
import { listen, type ListenError, reset } from "./Loopback.ts"

export interface Cluster {
  /** Starts an instance, or starts a dead one again; the result is its port. An instance that lives is left alone. */
  readonly start: (name: string) => Effect.Effect<number, ListenError>
  /** Ends an instance at once; completes when its port is closed. Harmless for one that is dead. */
  readonly kill: (name: string) => Effect.Effect<void>
  /** Requests that an instance has received, in all its lives. */
  readonly received: (name: string) => number
}

export interface Options {
  /** Milliseconds between a request and its answer, 0 by default. */
  readonly answerAfter?: number | undefined
  /** Asked when a request has come; by default all is well. */
  readonly reply?: ((request: Request) => Reply) | undefined
}

type Request = Pick<IncomingMessage, "method" | "url" | "headers">

/** What an instance does with a request: it answers, by default with its name, or it breaks the connection. */
export type Reply =
  | "reset"
  | { readonly status: number; readonly headers?: OutgoingHttpHeaders; readonly body?: object | undefined }

export const allIsWell: Reply = { status: 200 }

interface Life {
  readonly port: number
  readonly server: Server
  readonly sockets: Set<Socket>
}

export const make = Effect.fnUntraced(function* (options: Options = {}): Effect.fn.Return<Cluster, never, Scope.Scope> {
  const { answerAfter = 0, reply = () => allIsWell } = options
  const lives = new Map<string, Life>()
  const received = new Map<string, number>()

  const serve = (name: string): Server => {
    const signature = JSON.stringify({ instance: name })
    return createServer((request, response) => {
      received.set(name, (received.get(name) ?? 0) + 1)
      request.resume()
      const replied = reply(request)
      const answer = () => {
        if (replied === "reset") return reset(request.socket)
        const body = replied.body === undefined ? signature : JSON.stringify(replied.body)
        const own = { "content-type": "application/json", "content-length": body.length, "x-instance": name }
        response.writeHead(replied.status, { ...own, ...replied.headers }).end(body)
      }
      if (answerAfter > 0) setTimeout(answer, answerAfter)
      else answer()
    })
  }

  const start: Cluster["start"] = Effect.fnUntraced(function* (name: string) {
    const living = lives.get(name)
    if (living !== undefined) return living.port
    const server = serve(name)
    const sockets = new Set<Socket>()
    server.on("connection", (socket) => {
      sockets.add(socket)
      socket.once("close", () => sockets.delete(socket))
    })
    const port = yield* listen(server)
    lives.set(name, { port, server, sockets })
    return port
  }, Effect.uninterruptible)

  const kill: Cluster["kill"] = (name) =>
    Effect.callback((resume) => {
      const life = lives.get(name)
      if (life === undefined) return resume(Effect.void)
      lives.delete(name)
      // First the resets: `close` would say farewell to idle connections.
      for (const socket of life.sockets) reset(socket)
      life.server.close(() => resume(Effect.void))
    })

  yield* Effect.addFinalizer(() => Effect.forEach([...lives.keys()], kill, { concurrency: "unbounded", discard: true }))
  return { start, kill, received: (name) => received.get(name) ?? 0 }
})
