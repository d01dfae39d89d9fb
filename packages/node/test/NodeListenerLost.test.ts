/** What becomes of a listening socket behind the acceptor's back. */
import { assert, describe, it } from "@effect/vitest"
import { ServerPool, Supervisor } from "@millrace/core"
import { ListenError } from "@millrace/core/server/Listener"
import type { ServerEvent } from "@millrace/core/server/ServerEvent"
import { Effect, Exit, Fiber, Logger, Queue, Scope, Stream } from "effect"
import * as DiagnosticsChannel from "node:diagnostics_channel"
import { hasProperty } from "effect/Predicate"
import * as Net from "node:net"
import * as NodeListener from "../src/NodeListener.ts"
import { eventually, replace, serving, text } from "./fixtures/listener.ts"
import { connect, get } from "./fixtures/rawClient.ts"

/** The servers of Node that listen while the scope lasts, in their order: as somebody else in the process finds them. */
const listeningServers = Effect.acquireRelease(
  Effect.sync(() => {
    const servers: Array<Net.Server> = []
    const heard = (message: unknown) => {
      if (hasProperty(message, "server") && message.server instanceof Net.Server) servers.push(message.server)
    }
    DiagnosticsChannel.subscribe("tracing:net.server.listen:asyncEnd", heard)
    return { servers, heard }
  }),
  ({ heard }) => Effect.sync(() => DiagnosticsChannel.unsubscribe("tracing:net.server.listen:asyncEnd", heard))
).pipe(Effect.map(({ servers }) => servers))

const setup = Effect.gen(function* () {
  const servers = yield* listeningServers
  const served = yield* serving(text("here."))
  const lost = yield* Effect.forkScoped(Effect.flip(served.acceptor.lost), { startImmediately: true })
  const [server] = servers
  if (server === undefined) return yield* Effect.die(new Error("nobody listens"))
  return { ...served, lost, server }
})

const systemError = (code: string) => Object.assign(new Error(`accept ${code}`), { code })

const quiet = Effect.provide(Logger.layer([]))

describe("NodeListener, an address that is lost", () => {
  it.live("is told at once when somebody closes its socket; connections that there are go on", () =>
    Effect.gen(function* () {
      const { acceptor, lost, port, server } = yield* setup
      const client = yield* connect(port)
      client.send(get())
      yield* client.take("here.")
      server.close()
      const error = yield* Fiber.join(lost)
      assert.instanceOf(error, ListenError)
      assert.strictEqual(error.reason, "lost")
      assert.strictEqual(
        error.message,
        "127.0.0.1:0 does not accept any more: somebody has closed its socket: start it again"
      )
      assert.isTrue(Exit.isFailure(yield* Effect.exit(connect(port))), "nobody accepts")
      client.send(get())
      yield* client.take("here.")
      yield* acceptor.close
      // A new backend gets nobody, and says nothing.
      yield* replace(acceptor, text("never."))
    })
  )

  it.live("is told when accepting fails for good, with the system's error", () =>
    Effect.gen(function* () {
      const { lost, port, server } = yield* setup
      const cause = systemError("EINVAL")
      server.emit("error", cause)
      server.emit("error", systemError("EBADF"))
      const error = yield* Fiber.join(lost)
      assert.strictEqual(error.cause, cause)
      assert.include(error.message, "accept EINVAL")
      assert.isFalse(server.listening, "or Node would report it without an end")
      assert.isTrue(Exit.isFailure(yield* Effect.exit(connect(port))))
    })
  )

  it.live("a connection that could not be accepted is a warning, and the next one is", () => {
    const logged: Array<string> = []
    const logger = Logger.make(({ logLevel, message }) => void logged.push(`${logLevel} ${String(message)}`))
    return Effect.gen(function* () {
      const { lost, port, server } = yield* setup
      const passing = ["EMFILE", "ENFILE", "ENOBUFS", "ECONNABORTED", "ENETDOWN", "EOPNOTSUPP"]
      for (const code of passing) server.emit("error", systemError(code))
      server.emit("error", new Error("one without a code"))
      yield* eventually(() => logged.length === passing.length + 1)
      for (const line of logged) assert.match(line, /^Warn a connection could not be accepted/)
      const client = yield* Effect.orDie(connect(port))
      client.send(get())
      yield* client.take("here.")
      assert.isUndefined(lost.pollUnsafe())
    }).pipe(Effect.provide(Logger.layer([logger])))
  })

  it.live("is not told when it is closed in order, by close or by its scope", () =>
    Effect.gen(function* () {
      for (const how of ["close", "scope"] as const) {
        const scope = yield* Scope.make()
        const { acceptor } = yield* Scope.provide(serving(text("here.")), scope)
        const lost = yield* Effect.forkScoped(Effect.flip(acceptor.lost), { startImmediately: true })
        yield* how === "close" ? acceptor.close : Scope.close(scope, Exit.void)
        yield* Scope.close(scope, Exit.void)
        assert.isUndefined(lost.pollUnsafe(), how)
      }
    })
  )

  it.live("makes its server fail, which a supervisor restarts on the same port; a request under way is answered", () =>
    Effect.gen(function* () {
      const servers = yield* listeningServers
      const pool = yield* ServerPool.make({
        servers: [{ name: "a", bind: "127.0.0.1:0" }],
        handlers: text("here.")
      })
      yield* pool.start
      yield* Supervisor.make(pool)
      const events = yield* Queue.unbounded<ServerEvent>()
      yield* Effect.forkScoped(
        Stream.runForEach(pool.events, (event) => Queue.offer(events, event)),
        { startImmediately: true }
      )
      const [server] = yield* pool.servers
      const before = server?.address
      const old = yield* connect(before?.port ?? 0)
      old.send("GET / HT")
      servers[0]?.close()
      assert.strictEqual((yield* Queue.take(events))._tag, "Failed")
      assert.strictEqual((yield* Queue.take(events))._tag, "Started")
      assert.deepStrictEqual(server?.address, before)
      const fresh = yield* connect(before?.port ?? 0)
      fresh.send(get())
      yield* fresh.take("here.")
      old.send("TP/1.1\r\nHost: a\r\n\r\n")
      assert.include(yield* old.take("here."), "Connection: close")
      assert.deepInclude(yield* Queue.take(events), { _tag: "Drained", cut: { connections: 0, requests: 0 } })
    }).pipe(Effect.provide(NodeListener.layer), quiet)
  )
})
