/** A stop with more clients than anybody looks at one by one: what counts is that the counts add up. */
import { assert, describe, it } from "@effect/vitest"
import { ServerPool } from "@millrace/core"
import { Deferred, Effect, Fiber, Stream } from "effect"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as NodeListener from "../src/NodeListener.ts"
import { eventually, text } from "./fixtures/listener.ts"
import { connect, get } from "./fixtures/rawClient.ts"

const clients = 1000

const answered = "in time."

/** Of five: three can be answered when the stop has begun, one never answers, one has begun an answer that never ends. */
const pathOf = (index: number): string => (index % 5 < 3 ? "/" : index % 5 === 3 ? "/never" : "/endless")

describe("a stop with 1000 requests under way", () => {
  it.live("answers or cuts each, counts what it cuts, and leaves nothing", (context) =>
    Effect.gen(function* () {
      const gate = yield* Deferred.make<void>()
      let ended = 0
      const handler = Effect.gen(function* () {
        const { url } = yield* HttpServerRequest.HttpServerRequest
        if (url === "/never") return yield* Effect.never
        if (url === "/endless") {
          return HttpServerResponse.stream(Stream.concat(Stream.make(new Uint8Array([46])), Stream.never))
        }
        yield* Deferred.await(gate)
        return yield* text(answered)
      }).pipe(
        Effect.tap(() => Effect.addFinalizer(() => Effect.sync(() => ended++))),
        Effect.onInterrupt(() => Effect.sync(() => ended++))
      )
      const servers = [{ name: "crowd", bind: "127.0.0.1:0", drainTimeout: "1 second" } as const]
      const pool = yield* Effect.provide(ServerPool.make({ servers, handlers: handler }), NodeListener.layer)
      yield* pool.start
      const [server] = yield* pool.servers
      const port = server?.address?.port ?? assert.fail("it does not run")
      const counts = () => Effect.runSync(server!.counts)
      const crowd = yield* Effect.forEach(Array.from({ length: clients }).keys(), (index) =>
        Effect.tap(connect(port), (client) => Effect.sync(() => client.send(get(pathOf(index)))))
      )
      yield* eventually(() => counts().active === clients)
      for (const [index, client] of crowd.entries()) if (pathOf(index) === "/endless") yield* client.take("\r\n.")

      const stop = yield* Effect.forkScoped(pool.stop, { startImmediately: true })
      yield* Deferred.succeed(gate, undefined)
      const [stopped] = yield* Fiber.join(stop)
      yield* Effect.forEach(crowd, (client) => client.ended)

      const complete = crowd.filter((client) => client.text.endsWith(answered))
      const unavailable = crowd.filter((client) => client.text.startsWith("HTTP/1.1 503"))
      const cut = stopped?.cut ?? assert.fail("it did not run")
      yield* Effect.promise(() => context.annotate(`${complete.length} answered, ${cut.requests} cut`))
      assert.strictEqual(complete.length + cut.requests, clients)
      assert.strictEqual(cut.connections, cut.requests, "each had a connection of its own")
      assert.isAtLeast(cut.requests, (clients * 2) / 5)
      assert.isAtLeast(unavailable.length, clients / 5, "who had no answer by then is told so")
      assert.include<object>(counts(), { connections: 0, active: 0, requests: clients, accepted: clients })
      assert.strictEqual(ended, clients, "no handler is left")
    })
  )
})
