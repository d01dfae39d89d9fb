/**
 * What answers on its connections, and how it ends them.
 *
 * ```
 * serving ──drain──► draining ──the last connection is gone, or cut──► ended
 * ```
 *
 * A backend that has a successor (`Surroundings.successor`) gives it, while it drains, each connection that is idle or falls
 * idle: closing one could cross a request that its client just sends. The successor answers the next request and says
 * `Connection: close`. Without a successor, and when the successor asks more of a TLS client than this one did, such
 * connections are closed.
 *
 * @since 0.1.0
 */
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as NodeWS from "@effect/platform-node/NodeWS"
import {
  type Backend,
  type Counts,
  type Drained,
  type Handler,
  ListenError,
  type LoggedRequest,
  type RequestLog,
  type Settings,
  type TlsSettings
} from "@millrace/core/server/Listener"
import { Takeover } from "@millrace/core/server/Takeover"
import * as ByteSize from "effect/ByteSize"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import { empty } from "effect/http/HttpServerResponse"
import { MaxBodySize } from "effect/http/HttpIncomingMessage"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as Tracer from "effect/Tracer"
import type { IncomingMessage, ServerResponse } from "node:http"
import type { Socket } from "node:net"
import type { Duplex } from "node:stream"
import { closeGently, Connection } from "./connection.ts"
import { Engine } from "./engine.ts"
import { checkTls } from "./serverTls.ts"
import { takeover } from "./takeover.ts"
import { whileOpen } from "./whileOpen.ts"
import { WriteTimeout } from "./writeTimeout.ts"

/**
 * What a backend knows of the acceptor.
 *
 * @internal
 */
export interface Surroundings {
  /** The address, for errors. */
  readonly text: string
  /** Who takes the connections that `backend` has no use for, if there is anybody. */
  readonly successor: (backend: NodeBackend) => NodeBackend | undefined
  readonly ended: (backend: NodeBackend) => void
}

/**
 * What is refused before any handler: a body whose end is not certain, one that is too large, an expectation that nobody
 * meets.
 *
 * @internal
 */
export type RefusedWith = 400 | 413 | 417

interface Answers {
  readonly request: (request: IncomingMessage, response: ServerResponse) => void
  readonly upgrade: (request: IncomingMessage, socket: Duplex, head: Buffer) => void
  readonly refusals: Readonly<Record<RefusedWith, Answers["request"]>>
}

/** Speaks the server's side of WebSockets; holds nothing itself. */
const webSockets = Effect.sync(() => new NodeWS.WebSocketServer({ clientTracking: false, noServer: true }))

/** A handler is not part of the span that started its server, and has scopes of its own. */
const contextOfHandlers = Effect.map(Effect.context(), (context) =>
  Context.add(Context.omit(Scope.Scope, Tracer.ParentSpan)(context), Takeover, takeover)
)

/** What collects a body in a handler keeps the limit. */
const limited = (context: Context.Context<never>, maxBodyBytes: number): Context.Context<never> =>
  maxBodyBytes === Infinity ? context : Context.add(context, MaxBodySize, ByteSize.bytes(maxBodyBytes))

/** @internal */
export const makeBackend = (
  settings: Settings,
  handler: Handler,
  around: Surroundings,
  log?: RequestLog
): Effect.Effect<NodeBackend, ListenError> =>
  Effect.gen(function* () {
    if (settings.tls !== undefined) yield* checkTls(settings.tls, around.text)
    const fibers = Scope.makeUnsafe("parallel")
    const context = limited(yield* contextOfHandlers, settings.maxBodyBytes)
    const answers = (from: Handler) => answersOf(from, fibers).pipe(Effect.provideContext(context))
    return new NodeBackend(settings, around, fibers, answers, yield* answers(handler), log)
  })

const answersOf = (handler: Handler, scope: Scope.Scope): Effect.Effect<Answers> => {
  // Effect's server runs a handler uninterruptibly, so that it would outlive its client.
  const interruptible = Effect.interruptible(handler)
  // These are Effect's answers, too: it does not read a large body to its end for nothing, as Node does.
  const refusal = (status: RefusedWith) => NodeHttpServer.makeHandler(Effect.succeed(empty({ status })), { scope })
  return Effect.all({
    request: NodeHttpServer.makeHandler(interruptible, { scope }),
    upgrade: NodeHttpServer.makeUpgradeHandler(webSockets, whileOpen(interruptible), { scope }),
    refusals: Effect.all({ 400: refusal(400), 413: refusal(413), 417: refusal(417) })
  })
}

/** @internal */
export class NodeBackend implements Backend {
  readonly #settings: Settings
  readonly #around: Surroundings
  /** The handlers that run. */
  readonly #fibers: Scope.Closeable
  readonly #answersOf: (handler: Handler) => Effect.Effect<Answers>
  #answers: Answers
  #engine: Engine
  readonly #connections = new Set<Connection>()
  readonly #log: RequestLog | undefined
  readonly #writeTimeout: WriteTimeout
  #active = 0
  #accepted = 0
  #requests = 0
  #failures = 0
  #refused = 0
  #state: "serving" | "draining" | "ended" = "serving"
  /** What came before the drain began is read, so that a connection without bytes is idle. */
  #settled = false
  #cut: Drained = { connections: 0, requests: 0 }
  #waiting: Array<() => void> = []
  #ending: Fiber.Fiber<void> | undefined = undefined

  constructor(
    settings: Settings,
    around: Surroundings,
    fibers: Scope.Closeable,
    answersOf: (handler: Handler) => Effect.Effect<Answers>,
    answers: Answers,
    log: RequestLog | undefined
  ) {
    this.#log = log
    this.#settings = settings
    this.#around = around
    this.#fibers = fibers
    this.#answersOf = answersOf
    this.#answers = answers
    this.#engine = new Engine(settings)
    this.#writeTimeout = new WriteTimeout(settings.writeTimeout, this.#connections)
  }

  get serving(): boolean {
    return this.#state === "serving"
  }

  get ended(): boolean {
    return this.#state === "ended"
  }

  get tls(): TlsSettings | undefined {
    return this.#engine.tls
  }

  get maxBodyBytes(): number {
    return this.#settings.maxBodyBytes
  }

  readonly handle = (handler: Handler): Effect.Effect<void> =>
    Effect.map(this.#answersOf(handler), (answers) => {
      this.#answers = answers
    })

  readonly secure = (tls: TlsSettings): Effect.Effect<void, ListenError> =>
    Effect.suspend(() => {
      const address = this.#around.text
      if (this.tls === undefined) {
        const advice = "this server speaks plain HTTP: replace it by one with `tls`"
        return Effect.fail(new ListenError({ reason: "tls", address, advice, cause: "no TLS" }))
      }
      return Effect.map(checkTls(tls, address), () => {
        if (this.ended) return
        // Connections keep the engine that has done their handshake.
        this.#engine.retire()
        this.#engine = new Engine({ ...this.#settings, tls })
      })
    })

  readonly counts = (): Counts => ({
    connections: this.#connections.size,
    active: this.#active,
    accepted: this.#accepted,
    requests: this.#requests,
    failures: this.#failures,
    refused: this.#refused
  })

  readonly drain = (timeout: number): Effect.Effect<Drained> =>
    Effect.gen({ self: this }, function* () {
      this.#leave()
      const ended = Effect.andThen(Effect.andThen(this.#empty, this.#finish), this.#fibersEnded)
      const inTime = yield* Effect.timeoutOption(ended, timeout)
      if (Option.isNone(inTime)) yield* this.#abort
      return this.#cut
    })

  /** Ends now; completes when no socket, timer or fiber is left. */
  get destroy(): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.#leave()
      return Effect.andThen(this.#abort, this.#fibersEnded)
    })
  }

  // What the acceptor calls.

  give(socket: Socket): void {
    if (this.#connections.size >= this.#settings.maxConnections) {
      this.#refused++
      return closeGently(socket)
    }
    this.#accepted++
    const connection = new Connection(socket, this.#engine, this)
    this.#connections.add(connection)
    socket.once("close", () => connection.owner.#forget(connection))
    this.#engine.attach(connection)
  }

  // What connections call.

  begin(response: ServerResponse): LoggedRequest | undefined {
    this.#requests++
    this.#active++
    if (!this.#settings.keepAlive || this.#state !== "serving") response.shouldKeepAlive = false
    return this.#log?.begin(response.req.method ?? "")
  }

  answer(request: IncomingMessage, response: ServerResponse): void {
    this.#answers.request(request, response)
  }

  refuse(response: ServerResponse, status: RefusedWith): void {
    this.#answers.refusals[status](response.req, response)
  }

  end(response: ServerResponse): void {
    this.#active--
    if (response.headersSent && response.statusCode >= 500) this.#failures++
  }

  beginUpgrade(request: IncomingMessage): LoggedRequest | undefined {
    this.#requests++
    this.#active++
    return this.#log?.begin(request.method ?? "")
  }

  answerUpgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    this.#answers.upgrade(request, socket, head)
  }

  endUpgrade(): void {
    this.#active--
  }

  /** No request of `connection` is under way any more. */
  settled(connection: Connection): void {
    if (this.#state !== "serving") this.#release(connection)
  }

  // The end.

  #leave(): void {
    if (this.#state !== "serving") return
    this.#state = "draining"
    for (const connection of this.#connections) {
      for (const response of connection.responses) if (!response.headersSent) response.shouldKeepAlive = false
      this.#release(connection)
    }
    // A whole turn of the event loop reads what clients had sent by now.
    setImmediate(() =>
      setImmediate(() => {
        this.#settled = true
        for (const connection of this.#connections) this.#release(connection)
      })
    )
  }

  #release(connection: Connection): void {
    if (connection.active > 0 || connection.closing) return
    const successor = this.#around.successor(this)
    if (successor !== undefined && connection.engine.admittedBy(successor.tls)) {
      this.#connections.delete(connection)
      connection.moveTo(successor)
      successor.#connections.add(connection)
      this.#check()
    } else if (this.#settled && connection.idle) connection.close()
  }

  #forget(connection: Connection): void {
    this.#connections.delete(connection)
    this.#check()
  }

  #check(): void {
    if (this.#connections.size > 0) return
    for (const resume of this.#waiting.splice(0)) resume()
  }

  get #empty(): Effect.Effect<void> {
    return Effect.callback<void>((resume) => {
      const done = () => resume(Effect.void)
      if (this.#connections.size === 0) return done()
      this.#waiting.push(done)
      return Effect.sync(() => {
        this.#waiting = this.#waiting.filter((waiting) => waiting !== done)
      })
    })
  }

  /** For what handlers still do, having answered. */
  get #fibersEnded(): Effect.Effect<void> {
    return Effect.suspend(() => Fiber.await(this.#interrupt()))
  }

  #interrupt(): Fiber.Fiber<void> {
    this.#ending ??= Effect.runFork(Scope.close(this.#fibers, Exit.void))
    return this.#ending
  }

  readonly #finish = Effect.sync((): void => {
    this.#state = "ended"
    this.#engine.retire()
    this.#writeTimeout.stop()
    this.#around.ended(this)
  })

  /** Completes when the connections are gone, whatever their handlers do. */
  readonly #abort: Effect.Effect<void> = Effect.suspend(() => {
    const busy = [...this.#connections].filter((connection) => !connection.idle && !connection.closing)
    this.#cut = {
      connections: this.#cut.connections + busy.length,
      requests: busy.reduce((sum, connection) => sum + connection.active, this.#cut.requests)
    }
    // Handlers that have not answered say 503 now, and WebSockets 1001.
    this.#interrupt()
    setImmediate(() => {
      for (const connection of this.#connections) connection.cut()
    })
    return Effect.andThen(this.#empty, this.#finish)
  })
}
