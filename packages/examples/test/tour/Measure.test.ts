import { assert, describe, it } from "@effect/vitest"
import { UndiciConnector } from "@millrace/node"
import * as Effect from "effect/Effect"
import { createServer, type OutgoingHttpHeaders } from "node:http"
import { listen } from "../../src/tour/Loopback.ts"
import { measure, type Options } from "../../src/tour/Measure.ts"
import * as Stage from "../../src/tour/Stage.ts"

const run = (options: Options) => Effect.provide(measure(options), UndiciConnector.layer)

/** A service that says the same of itself in every answer. */
const service = (headers: OutgoingHttpHeaders, status = 200) =>
  Effect.gen(function* () {
    const server = createServer((_, response) => void response.writeHead(status, headers).end("ok"))
    const port = yield* Effect.acquireRelease(listen(server), () =>
      Effect.callback<void>((resume) => {
        server.close(() => resume(Effect.void))
        server.closeAllConnections()
      })
    )
    return new URL(`http://127.0.0.1:${port}/a?b=c`)
  })

describe("Measure", () => {
  it.live("shows who reaches which instance", () =>
    Effect.gen(function* () {
      const { url } = yield* Stage.make()
      const { clients, header } = yield* run({ url, requests: 40, slots: 4 })
      assert.strictEqual(header, "x-instance")
      const [single, pool] = clients
      assert.deepStrictEqual(single!.perInstance, { ash: 40 })
      assert.strictEqual(single!.connections, 1)
      // The first connection was the single client's; the turn goes on from there.
      assert.deepStrictEqual(pool!.perInstance, { elm: 10, fir: 10, oak: 10, ash: 10 })
      assert.strictEqual(pool!.connections, 4)
      assert.deepStrictEqual(pool!.statuses, { 200: 40 })
    })
  )

  it.live("believes the header that it is told", () =>
    Effect.gen(function* () {
      const url = yield* service({ "x-mine": "one", "x-instance": "two" })
      const told = yield* run({ url, requests: 3, slots: 2, byHeader: "x-mine" })
      assert.strictEqual(told.header, "x-mine")
      assert.deepStrictEqual(told.clients[0]!.perInstance, { one: 3 })
      const absent = yield* run({ url, requests: 3, slots: 2, byHeader: "x-other" })
      assert.strictEqual(absent.header, null)
    })
  )

  it.live("cannot tell instances apart by the name of their software", () =>
    Effect.gen(function* () {
      const url = yield* service({ server: "nginx" }, 503)
      const { clients, header } = yield* run({ url, requests: 3, slots: 2 })
      assert.strictEqual(header, null)
      assert.deepStrictEqual(
        clients.map(({ answered, connections, perInstance, statuses }) => ({
          answered,
          connections,
          perInstance,
          statuses
        })),
        [
          { answered: 3, connections: 1, perInstance: null, statuses: { 503: 3 } },
          { answered: 3, connections: 2, perInstance: null, statuses: { 503: 3 } }
        ]
      )
    })
  )

  it.live("gives up on a service that does not answer", () =>
    Effect.gen(function* () {
      const url = yield* Effect.scoped(service({}))
      const { clients } = yield* run({ url, requests: 100, slots: 2 })
      for (const client of clients) {
        assert.isTrue(client.givenUp)
        assert.strictEqual(client.requests, 5)
        assert.strictEqual(client.answered, 0)
      }
      assert.deepStrictEqual(clients[0]!.errors, { ECONNREFUSED: 5 })
      assert.deepStrictEqual(clients[1]!.errors, { "ConnectError(tcp)": 5 })
    })
  )
})
