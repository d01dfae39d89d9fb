import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { Client } from "undici"
import * as Cluster from "../../src/tour/Cluster.ts"

const client = (port: number) =>
  Effect.acquireRelease(
    Effect.sync(() => new Client(`http://127.0.0.1:${port}`)),
    (client) => Effect.promise(() => client.destroy())
  )

const get = (client: Client) =>
  Effect.tryPromise(async () => {
    const response = await client.request({ path: "/", method: "GET" })
    return { header: response.headers["x-instance"], body: await response.body.json() }
  })

const getFrom = (port: number) => Effect.scoped(Effect.flatMap(client(port), get))

describe("Cluster", () => {
  it.live("answers with the name of the instance", () =>
    Effect.gen(function* () {
      const cluster = yield* Cluster.make()
      const ports = yield* Effect.forEach(["ash", "elm"], cluster.start)
      const answers = yield* Effect.forEach(ports, getFrom)
      assert.deepStrictEqual(answers, [
        { header: "ash", body: { instance: "ash" } },
        { header: "elm", body: { instance: "elm" } }
      ])
      assert.strictEqual(cluster.received("ash"), 1)
    })
  )

  it.live("kills an instance and starts it again", () =>
    Effect.gen(function* () {
      const cluster = yield* Cluster.make()
      const port = yield* cluster.start("ash")
      assert.strictEqual(yield* cluster.start("ash"), port)
      yield* cluster.kill("ash")
      assert.isTrue((yield* Effect.exit(getFrom(port)))._tag === "Failure")
      yield* cluster.kill("ash")
      const again = yield* cluster.start("ash")
      assert.strictEqual((yield* getFrom(again)).header, "ash")
      assert.strictEqual(cluster.received("ash"), 1)
    })
  )

  it.live("resets a request that waits for its answer when the instance is killed", () =>
    Effect.gen(function* () {
      const cluster = yield* Cluster.make({ answerAfter: 60_000 })
      const port = yield* cluster.start("ash")
      const waiting = yield* Effect.forkChild(Effect.exit(getFrom(port)), { startImmediately: true })
      while (cluster.received("ash") === 0) yield* Effect.promise(() => new Promise(setImmediate))
      yield* cluster.kill("ash")
      assert.isTrue((yield* Fiber.join(waiting))._tag === "Failure")
    })
  )
})
