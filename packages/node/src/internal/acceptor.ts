/**
 * The socket that accepts. It hands each connection to the current backend and touches none of them after that.
 *
 * While there is no backend, or the current one has ended, connections are accepted but not read: they wait for `use`.
 *
 * A connection that could not be accepted, as there are too many open files, is a warning: those that wait are asked for
 * again. A socket that somebody else has closed, or that the system says is none, is lost.
 *
 * @since 0.1.0
 */
import {
  type Acceptor,
  type Address,
  type Backend,
  type Handler,
  ListenError,
  type RequestLog,
  type Settings
} from "@millrace/core/server/Listener"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Net from "node:net"
import { makeBackend, NodeBackend, type Surroundings } from "./backend.ts"

const textOf = ({ host, port }: Address): string =>
  Net.isIPv6(host ?? "") ? `[${host}]:${port}` : `${host ?? ""}:${port}`

const advice: Record<string, string> = {
  EADDRINUSE: "something else listens there: stop it, or choose another port (0 lets the system choose)",
  EACCES: "this process may not: ports below 1024 need a privilege on most systems",
  EADDRNOTAVAIL: "no interface of this machine has this address",
  EAFNOSUPPORT: "this machine has no such addresses (IPv6 may be off)",
  ENOTFOUND: "the name cannot be resolved",
  EAI_AGAIN: "the name cannot be resolved at the moment"
}

/**
 * Errors of accepting that say that this is no listening socket any more: Node would report them without an end. All others
 * are of one connection, or of the moment (accept(2) names them).
 */
const fatal: ReadonlySet<string> = new Set(["EBADF", "EINVAL", "ENOTSOCK"])

const noop = (): void => {}

/** Says at once that it is closed, whoever has done it; the event `close` waits for the last connection. */
class AcceptingServer extends Net.Server {
  onClosed: () => void = noop

  override close(callback?: (error?: Error) => void): this {
    super.close(callback)
    this.onClosed()
    return this
  }
}

/** Once the server listens. */
const boundTo = (server: Net.Server): Acceptor["address"] => {
  const bound = server.address()
  if (bound === null || typeof bound === "string") throw new Error("a TCP server that listens has an address")
  return { host: bound.address, port: bound.port }
}

/** @internal */
export const open = (address: Address): Effect.Effect<Acceptor, ListenError, Scope.Scope> =>
  Effect.gen(function* () {
    // As the servers of Node do, whose sockets these will be.
    const server = new AcceptingServer({ allowHalfOpen: true, noDelay: true, pauseOnConnect: true })
    const acceptor = yield* Effect.acquireRelease(
      Effect.sync(() => new NodeAcceptor(server, textOf(address))),
      (opened) => opened.destroy
    )
    yield* Effect.callback<void, ListenError>((resume) => {
      const failed = (cause: NodeJS.ErrnoException) => {
        const text = advice[cause.code ?? ""] ?? cause.message
        resume(Effect.fail(new ListenError({ reason: "bind", address: acceptor.text, advice: text, cause })))
      }
      server.once("error", failed)
      server.listen({ host: address.host, port: address.port }, () => {
        server.off("error", failed)
        resume(Effect.void)
      })
    })
    // Read here, as there is none when the server is closed.
    yield* Effect.sync(() => acceptor.address)
    const report = yield* reporter
    server.on("error", (error: NodeJS.ErrnoException) => {
      if (fatal.has(error.code ?? "")) acceptor.lose(error)
      else report(error)
    })
    return acceptor
  })

const reporter = Effect.map(Effect.context(), (context) => (error: Error): void => {
  Effect.runForkWith(context)(Effect.logWarning("a connection could not be accepted", error))
})

class NodeAcceptor implements Acceptor, Surroundings {
  /** As it was asked for. */
  readonly text: string
  readonly #server: AcceptingServer
  readonly #lost = Deferred.makeUnsafe<never, ListenError>()
  readonly lost: Effect.Effect<never, ListenError> = Deferred.await(this.#lost)
  /** All that were accepted and are open. */
  readonly #sockets = new Set<Net.Socket>()
  #held: Array<Net.Socket> = []
  readonly #backends = new Set<NodeBackend>()
  #current: NodeBackend | undefined = undefined
  #closed = false
  #address: Acceptor["address"] | undefined = undefined

  constructor(server: AcceptingServer, text: string) {
    this.#server = server
    this.text = text
    server.onClosed = () => this.lose(new Error("somebody has closed its socket"))
    server.on("connection", (socket) => this.#accept(socket))
  }

  get address(): Acceptor["address"] {
    this.#address ??= boundTo(this.#server)
    return this.#address
  }

  readonly backend = (settings: Settings, handler: Handler, log?: RequestLog): Effect.Effect<Backend, ListenError> =>
    Effect.map(makeBackend(settings, handler, this, log), (backend) => {
      this.#backends.add(backend)
      return backend
    })

  readonly use = (backend: Backend): Effect.Effect<void> =>
    Effect.suspend(() => {
      if (!(backend instanceof NodeBackend && this.#backends.has(backend))) {
        return Effect.die(new Error(`use: this is no living backend of the acceptor of ${this.text}`))
      }
      this.#current = backend
      for (const socket of this.#held.splice(0)) if (!socket.destroyed) backend.give(socket)
      return Effect.void
    })

  readonly close: Effect.Effect<void> = Effect.sync(() => {
    this.#end()
  })

  /** Nobody has asked for it. */
  lose(cause: Error): void {
    if (this.#closed) return
    const advice = `${cause.message}: start it again`
    this.#end()
    Deferred.doneUnsafe(this.#lost, Effect.fail(new ListenError({ reason: "lost", address: this.text, advice, cause })))
  }

  /** Completes when nothing is left: no socket, no timer, no fiber. */
  readonly destroy: Effect.Effect<void> = Effect.suspend(() => {
    const backends = Effect.forEach(this.#backends, (backend) => backend.destroy, {
      concurrency: "unbounded",
      discard: true
    })
    return Effect.andThen(Effect.andThen(this.close, backends), this.#destroySockets)
  })

  successor(backend: NodeBackend): NodeBackend | undefined {
    const current = this.#current
    return current !== backend && current?.serving === true && !this.#closed ? current : undefined
  }

  ended(backend: NodeBackend): void {
    this.#backends.delete(backend)
  }

  #end(): void {
    if (this.#closed) return
    this.#closed = true
    this.#server.close()
    for (const socket of this.#held.splice(0)) socket.destroy()
  }

  #accept(socket: Net.Socket): void {
    this.#sockets.add(socket)
    // Whoever speaks on it learns of errors by itself; in between nobody may listen.
    socket.on("error", noop)
    socket.once("close", () => this.#sockets.delete(socket))
    const current = this.#current
    if (current === undefined || current.ended) this.#held.push(socket)
    else current.give(socket)
  }

  /** Those that were refused, and stay a moment to be read. */
  readonly #destroySockets: Effect.Effect<void> = Effect.suspend(() =>
    Effect.forEach(
      this.#sockets,
      (socket) =>
        Effect.callback<void>((resume) => {
          socket.once("close", () => resume(Effect.void)).destroy()
        }),
      { concurrency: "unbounded", discard: true }
    )
  )
}
