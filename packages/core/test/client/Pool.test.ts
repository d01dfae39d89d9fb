import { assert, describe, it } from "@effect/vitest"
import { Config, ConfigProvider, Context, Effect, Exit, Fiber, Latch, Layer, Option, Stream } from "effect"
import { HttpClient, HttpClientResponse } from "effect/http"
import * as Connector from "../../src/client/Connector.ts"
import * as Pool from "../../src/client/Pool.ts"
import * as PoolError from "../../src/model/PoolError.ts"
import { onWire, start, tagged, text } from "../fixtures/pools.ts"
import { Wire } from "../fixtures/wire.ts"

const echo = Connector.layerFunction((request, { origin, slot }) =>
  Effect.succeed(
    HttpClientResponse.fromWeb(request, new Response(`${request.method} ${request.url} ${origin} ${slot}`))
  )
)

const get = (url: string) => text(HttpClient.get(url))

describe("Pool", () => {
  describe("make", () => {
    it.effect("opens nothing before the first request", () =>
      Effect.gen(function* () {
        const wire = new Wire()
        yield* onWire(wire)
        assert.strictEqual(wire.connections.length, 0)
      })
    )

    it.effect("has eight slots, and takes absolute URLs, unless told otherwise", () =>
      Effect.gen(function* () {
        const pool = yield* Pool.make().pipe(Effect.provide(echo))
        assert.strictEqual(pool.slots.length, 8)
        assert.strictEqual(yield* text(pool.client.get("http://a.test/x")), "GET http://a.test/x http://a.test 0")
        assert.deepStrictEqual((yield* pool.stats).name, "default")
      })
    )

    it.effect("refuses options that are not valid, all at once", () =>
      Effect.gen(function* () {
        const error = yield* Effect.flip(Pool.make({ size: 0, baseUrl: "nonsense" }).pipe(Effect.provide(echo)))
        assert.deepStrictEqual(error.problems.map((problem) => problem.path).toSorted(), ["baseUrl", "size"])
      })
    )

    it.effect("several pools know nothing of each other", () =>
      Effect.gen(function* () {
        const wire = new Wire((sent) => sent.answer("ok"))
        const [a, b] = [yield* onWire(wire, { name: "a" }), yield* onWire(wire, { name: "b", size: 1 })]
        yield* a.client.get("/")
        assert.deepStrictEqual([(yield* a.stats).requests, (yield* b.stats).requests], [1, 0])
        assert.deepStrictEqual([(yield* a.stats).name, (yield* b.stats).name], ["a", "b"])
        assert.deepStrictEqual([(yield* a.stats).size, (yield* b.stats).size], [8, 1])
      })
    )
  })

  describe("layers", () => {
    it.effect("layer provides the default tag", () =>
      Effect.gen(function* () {
        const pool = yield* Pool.Pool
        assert.strictEqual(yield* text(pool.client.get("/x")), "GET http://h.test/x http://h.test 0")
      }).pipe(Effect.provide(Pool.layer({ baseUrl: "http://h.test", size: 2 }).pipe(Layer.provide(echo))))
    )

    it.effect("an application's own tags stand side by side", () => {
      class Billing extends Context.Service<Billing, Pool.Pool>()("test/Billing") {
        static readonly layer = Layer.effect(this, Pool.make({ baseUrl: "http://billing.test" }))
      }
      class Users extends Context.Service<Users, Pool.Pool>()("test/Users") {
        static readonly layer = Layer.effect(this, Pool.make({ baseUrl: "http://users.test" }))
      }
      return Effect.gen(function* () {
        assert.include(yield* text((yield* Billing).client.get("/")), "http://billing.test/")
        assert.include(yield* text((yield* Users).client.get("/")), "http://users.test/")
      }).pipe(Effect.provide(Layer.mergeAll(Billing.layer, Users.layer).pipe(Layer.provide(echo))))
    })

    it.effect("layerHttpClient provides Effect's own client, on the pool behind the default tag", () =>
      Effect.gen(function* () {
        assert.include(yield* get("/x"), "http://h.test/api/x")
        assert.include(yield* get("http://other.test/x"), "http://other.test/x")
        const error = yield* Effect.flip(get("../.."))
        tagged(Option.getOrThrow(PoolError.fromHttpClientError(error)), "InvalidRequest")
        assert.strictEqual((yield* (yield* Pool.Pool).stats).requests, 2)
      }).pipe(Effect.provide(Pool.layerHttpClient({ baseUrl: "http://h.test/api" }).pipe(Layer.provide(echo))))
    )

    const layerConfig = Pool.layerConfig({
      baseUrl: Config.String("URL"),
      size: Config.Int("CONNECTIONS").pipe(Config.withDefault(3))
    }).pipe(Layer.provide(echo))

    it.effect("layerConfig reads single options", () =>
      Effect.gen(function* () {
        const pool = yield* Pool.Pool
        assert.strictEqual(pool.slots.length, 3)
        assert.include(yield* text(pool.client.get("/x")), "http://configured.test/x")
      }).pipe(
        Effect.provide(layerConfig),
        Effect.provideService(
          ConfigProvider.ConfigProvider,
          ConfigProvider.fromEnvRecord({ URL: "http://configured.test" })
        )
      )
    )

    it.effect("layerConfig fails with everything that is wrong", () =>
      Effect.gen(function* () {
        const error = yield* Effect.flip(Layer.build(layerConfig))
        assert.strictEqual(error.problems.length, 2)
      }).pipe(
        Effect.provideService(
          ConfigProvider.ConfigProvider,
          ConfigProvider.fromEnvRecord({ URL: "nonsense", CONNECTIONS: "many" })
        )
      )
    )

    it.effect("layerFromConfig reads all there is", () =>
      Effect.gen(function* () {
        const pool = yield* Pool.Pool
        assert.strictEqual(pool.slots.length, 5)
        assert.strictEqual((yield* pool.stats).name, "from the environment")
      }).pipe(
        Effect.provide(Pool.layerFromConfig({ prefix: "BILLING" }).pipe(Layer.provide(echo))),
        Effect.provideService(
          ConfigProvider.ConfigProvider,
          ConfigProvider.fromEnvRecord({ BILLING_SIZE: "5", BILLING_NAME: "from the environment" })
        )
      )
    )

    it.effect("the end of a layer's scope closes the pool", () =>
      Effect.gen(function* () {
        const wire = new Wire((sent) => sent.answer())
        const layer = Pool.layer({ baseUrl: "http://h.test" }).pipe(Layer.provide(wire.layer))
        const pool = yield* Effect.gen(function* () {
          const inside = yield* Pool.Pool
          yield* inside.client.get("/")
          return inside
        }).pipe(Effect.provide(layer, { local: true }))
        tagged(yield* Effect.flip(pool.client.get("/")), "PoolClosed")
        assert.isTrue(wire.at(0).connection.closed)
      })
    )
  })

  describe("events", () => {
    it.effect("are those from now on; several may listen", () =>
      Effect.gen(function* () {
        const wire = new Wire((sent) => sent.answer())
        const pool = yield* onWire(wire, { size: 2 })
        yield* pool.client.get("/")
        const listeners = yield* Effect.forEach([1, 2], () => start(Stream.runCollect(Stream.take(pool.events, 1))))
        yield* pool.client.get("/")
        for (const listener of listeners) {
          assert.deepStrictEqual(yield* Fiber.join(listener), [
            { _tag: "ConnectionOpened", origin: "http://test.local", slot: 1, address: "192.0.2.1:1", millis: 7 }
          ])
        }
      })
    )

    it.effect("a slow consumer misses the oldest, and holds up nobody", () =>
      Effect.gen(function* () {
        const wire = new Wire((sent) => sent.answer())
        const pool = yield* onWire(wire, { size: 1, maxRequestsPerConnection: 1 })
        const gate = yield* Latch.make()
        const listening = yield* start(
          Stream.runCollect(
            Stream.take(
              Stream.mapEffect(pool.events, (event) => Effect.as(gate.await, event)),
              100
            )
          )
        )
        for (let i = 0; i < 500; i++) yield* pool.client.get("/")
        yield* gate.open
        const seen = yield* Fiber.join(listening)
        assert.strictEqual(seen.length, 100)
        assert.isBelow(seen.filter((event) => event._tag === "HostAdded").length, 2)
      })
    )
  })

  it.effect("runs many callers at once on few slots, and every request ends", () =>
    Effect.gen(function* () {
      const pool = yield* Pool.make({ baseUrl: "http://h.test", size: 3 }).pipe(
        Effect.provide(
          Connector.layerFunction((request, { slot }) =>
            Effect.gen(function* () {
              yield* Effect.yieldNow
              if (request.url.endsWith("7")) {
                return yield* new Connector.TransportError({ failure: { _tag: "Broken", cause: "seven" } })
              }
              yield* Effect.yieldNow
              return HttpClientResponse.fromWeb(request, new Response(`${slot}`))
            })
          )
        )
      )
      const exits = yield* Effect.forEach(
        Array.from({ length: 500 }, (_, i) => i),
        (i) => Effect.exit(text(pool.client.post(`/${i}`))),
        { concurrency: "unbounded" }
      )
      assert.strictEqual(exits.filter(Exit.isFailure).length, 50)
      const stats = yield* pool.stats
      assert.deepStrictEqual(
        [stats.requests, stats.responses, stats.failures, stats.active, stats.waiting],
        [500, 450, 50, 0, 0]
      )
      assert.strictEqual(stats.connectionsOpen, stats.connectionsOpened - stats.connectionsClosed)
      assert.isAtMost(stats.connectionsOpen, 3)
    })
  )
})
