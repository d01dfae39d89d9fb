/**
 * A TCP balancer in front of some backends, as an L4 service is (kube-proxy, a network load balancer): it knows
 * connections and no requests. Each accepted connection goes to the next backend in turn and stays there.
 *
 * A link is an accepted connection with the connection to its backend behind it:
 *
 * - `dialing`: the backend has not taken the connection yet. If it cannot be reached the client is reset.
 * - `joined`: bytes go both ways. If the backend is lost while it owes an answer (the client was the last to send), the
 *   client is reset; otherwise the link is orphaned.
 * - `orphaned`: the client knows nothing yet, as when a host loses power. Its next byte is answered by a reset.
 * - `closed`: the end of either side was passed on, or the client was reset.
 *
 * A backend that was removed gets no new connection; those that it has stay. With no backend at all, every new
 * connection is reset. One thing differs from a balancer in the kernel: a connection to a dead backend is accepted and
 * then reset, not refused.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { connect, createServer, type Socket } from "node:net"
import { type Counts } from "./Counts.ts"
import { listen, type ListenError, reset } from "./Loopback.ts"

export interface Balancer {
  readonly port: number
  /** From now on the backend gets its turn. A backend of the same name is replaced. */
  readonly add: (name: string, port: number) => void
  /** From now on the backend gets no new connection. */
  readonly remove: (name: string) => void
  /** Connections that each backend was given, including those that it could not take. */
  readonly opened: () => Counts
  /** Connections that each backend has, those included whose client does not know yet that it is lost. */
  readonly open: () => Counts
}

class Backend {
  readonly name: string
  readonly port: number
  opened = 0
  open = 0
  constructor(name: string, port: number) {
    this.name = name
    this.port = port
  }
}

class Link {
  private state: "dialing" | "joined" | "orphaned" | "closed" = "dialing"
  private owed = false
  private readonly client: Socket
  private readonly upstream: Socket
  private readonly backend: Backend

  constructor(client: Socket, backend: Backend) {
    this.client = client
    this.backend = backend
    backend.opened++
    backend.open++
    // Nothing is read before there is somebody to give it to.
    client.pause()
    client
      .on("data", () => this.sent())
      .on("error", () => undefined)
      .on("close", () => this.close())
    this.upstream = connect({ host: "127.0.0.1", port: backend.port, noDelay: true })
      .on("connect", () => this.join())
      .on("data", () => (this.owed = false))
      .on("error", () => this.lost())
  }

  private join(): void {
    this.state = "joined"
    this.client.pipe(this.upstream).pipe(this.client)
  }

  private sent(): void {
    if (this.state === "orphaned") reset(this.client)
    else this.owed = true
  }

  private lost(): void {
    if (this.state === "joined" && !this.owed) {
      this.state = "orphaned"
      this.client.resume()
    } else {
      reset(this.client)
    }
  }

  close(): void {
    if (this.state === "closed") return
    this.state = "closed"
    this.backend.open--
    this.client.destroy()
    this.upstream.destroy()
  }
}

export const make: Effect.Effect<Balancer, ListenError, Scope.Scope> = Effect.gen(function* () {
  const known = new Map<string, Backend>()
  const links = new Set<Link>()
  let turn: Array<Backend> = []
  let cursor = 0

  const next = (): Backend | undefined => {
    const backend = turn[cursor % turn.length]
    cursor = (cursor + 1) % Math.max(turn.length, 1)
    return backend
  }

  const server = createServer({ noDelay: true }, (client) => {
    const backend = next()
    if (backend === undefined) {
      client.on("error", () => undefined)
      reset(client)
      return
    }
    const link = new Link(client, backend)
    links.add(link)
    client.once("close", () => links.delete(link))
  })

  const remove: Balancer["remove"] = (name) => {
    const index = turn.findIndex((backend) => backend.name === name)
    if (index === -1) return
    turn = turn.toSpliced(index, 1)
    if (index < cursor) cursor--
  }

  const add: Balancer["add"] = (name, port) => {
    remove(name)
    const backend = new Backend(name, port)
    const before = known.get(name)
    backend.opened = before?.opened ?? 0
    known.set(name, backend)
    turn = [...turn, backend]
  }

  const read = (field: "opened" | "open"): Counts =>
    Object.fromEntries([...known.values()].map((backend) => [backend.name, backend[field]]))

  const port = yield* Effect.acquireRelease(listen(server), () =>
    Effect.callback<void>((resume) => {
      server.close(() => resume(Effect.void))
      for (const link of links) link.close()
    })
  )
  return { port, add, remove, opened: () => read("opened"), open: () => read("open") }
})
