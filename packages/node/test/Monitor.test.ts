/** Servers that are watched and restarted, on real sockets. */
import { assert, describe, it } from "@effect/vitest"
import * as Pool from "@millrace/core/client/Pool"
import * as Monitor from "@millrace/core/server/Monitor"
import * as ServerPool from "@millrace/core/server/ServerPool"
import * as Supervisor from "@millrace/core/server/Supervisor"
import { Effect, Fiber, Layer, Option, Redacted, Stream } from "effect"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as NodeHttpConnector from "../src/NodeHttpConnector.ts"
import * as NodeListener from "../src/NodeListener.ts"
import { selfSigned } from "./fixtures/certificate.ts"
import { text } from "./fixtures/listener.ts"

const platform = Layer.merge(NodeListener.layer, NodeHttpConnector.layer)

/** Long enough for the first connection of a cold process. */
const monitor = { interval: "300 millis", timeout: "300 millis", rise: 1, fall: 2 } as const

const verdict = (watch: Monitor.Monitor, name: string, wanted: Monitor.Verdict) =>
  watch.changes.pipe(
    Stream.filter(({ report, to }) => report.name === name && to === wanted),
    Stream.runHead,
    Effect.map(Option.getOrThrow)
  )

describe("Monitor on sockets", () => {
  it.live("plain and TLS servers are asked on the loopback; one whose handler hangs is KO, and comes back", () =>
    Effect.gen(function* () {
      const { cert, key } = selfSigned("localhost")
      const pool = yield* ServerPool.make({
        servers: [
          { name: "plain", bind: ":0", monitor },
          { name: "tls", bind: "127.0.0.1:0", handler: "tls", tls: { cert, key: Redacted.make(key) }, monitor }
        ],
        handlers: { default: text("fine"), tls: text("fine") }
      })
      const client = yield* Pool.make({ size: 2, tls: { ca: cert, servername: "localhost" } })
      const watch = yield* Monitor.make(pool, client, { slow: "20 seconds" })
      yield* pool.start
      yield* watch.check
      const ill = yield* Effect.forkChild(verdict(watch, "tls", "KO"), { startImmediately: true })
      yield* pool.setHandler(Effect.never, "tls")
      const { report } = yield* Fiber.join(ill)
      assert.strictEqual(report.lastError, "GET / was not answered within 300 ms")
      const well = yield* Effect.forkChild(verdict(watch, "tls", "OK"), { startImmediately: true })
      yield* pool.setHandler(text("fine"), "tls")
      assert.strictEqual((yield* Fiber.join(well)).from, "KO")
      assert.strictEqual((yield* watch.report)[0]?.failures, 0, "the other one was not disturbed")
    }).pipe(Effect.scoped, Effect.provide(platform))
  )

  it.live("a supervisor opens the address anew, once, and then gives up", () =>
    Effect.gen(function* () {
      const pool = yield* ServerPool.make({
        servers: [
          { name: "ill", bind: "127.0.0.1:0", monitor },
          { name: "well", bind: "127.0.0.1:0", handler: "well" }
        ],
        handlers: { default: Effect.succeed(HttpServerResponse.empty({ status: 503 })), well: text("fine") }
      })
      const client = yield* Pool.make({ size: 2 })
      const watch = yield* Monitor.make(pool, client)
      const supervisor = yield* Supervisor.make(pool, { monitor: watch })
      yield* pool.start
      const error = yield* Effect.flip(supervisor.escalation)
      assert.deepStrictEqual(
        error.servers.map(({ name }) => name),
        ["ill"]
      )
      assert.include(error.message, "GET / was answered with 503")
      const starts = yield* Effect.forEach(yield* pool.servers, (server) =>
        Effect.map(server.health, (health) => [health.state, health.starts])
      )
      assert.deepStrictEqual(starts, [
        ["Running", 2],
        ["Running", 1]
      ])
    }).pipe(Effect.scoped, Effect.provide(platform))
  )
})
