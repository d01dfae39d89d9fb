import { assert, describe, it } from "@effect/vitest"
import { Handler } from "@millrace/core"
import { Effect, Fiber, Metric, Stream } from "effect"
import * as Admin from "../src/Admin.ts"
import * as CpuProfile from "../src/Admin/CpuProfile.ts"
import * as Fibers from "../src/Admin/Fibers.ts"
import * as HeapSnapshot from "../src/Admin/HeapSnapshot.ts"
import { serving } from "./fixtures/listener.ts"
import { connect } from "./fixtures/rawClient.ts"

const admin = (options?: Admin.Options) =>
  Effect.gen(function* () {
    const { port } = yield* serving(yield* Handler.fromRouter(Admin.routes(options)))
    return (method: string, path: string, headers: Record<string, string> = {}) =>
      Effect.scoped(
        Effect.gen(function* () {
          const client = yield* connect(port)
          const lines = Object.entries({ host: "localhost", connection: "close", "content-length": "0", ...headers })
          client.send([`${method} ${path} HTTP/1.1`, ...lines.map(([k, v]) => `${k}: ${v}`), "", ""].join("\r\n"))
          const text = yield* client.until(({ end }) => end !== undefined)
          const [, status, rest] = /^HTTP\/1\.1 (\d+) ([^]*)$/.exec(text) ?? []
          return { status: Number(status), text: rest ?? "" }
        })
      )
  })

describe("Admin", () => {
  it.live("live as long as it answers; ready when all that is asked is", () =>
    Effect.gen(function* () {
      let storage = true
      const ask = yield* admin({ ready: { servers: Effect.succeed(true), storage: Effect.sync(() => storage) } })
      assert.strictEqual((yield* ask("GET", "/health/live")).status, 200)
      assert.strictEqual((yield* ask("GET", "/health/ready")).status, 200)
      storage = false
      const not = yield* ask("GET", "/health/ready")
      assert.strictEqual(not.status, 503)
      assert.include(not.text, '{"ready":false,"checks":{"servers":true,"storage":false}}')
      assert.strictEqual((yield* (yield* admin())("GET", "/health/ready")).status, 200)
    })
  )

  it.live("metrics of Effect are there for Prometheus, counters with its suffix", () =>
    Effect.gen(function* () {
      yield* Metric.update(Metric.counter("admin_test_total", { description: "of this test" }), 3)
      yield* Metric.update(Metric.counter("admin.test.other"), 4)
      yield* Metric.update(Metric.gauge("admin.test.now"), 5)
      const { status, text } = yield* (yield* admin())("GET", "/metrics")
      assert.strictEqual(status, 200)
      assert.match(text, /^admin_test_total 3$/m)
      assert.match(text, /^admin_test_other_total 4$/m)
      assert.match(text, /^admin_test_now 5$/m)
    })
  )

  it.live("fibers as text, or as JSON for who asks; without the watch it says what to do", () =>
    Effect.gen(function* () {
      const without = yield* (yield* admin())("GET", "/debug/fibers")
      assert.strictEqual(without.status, 501)
      assert.include(without.text, "Fibers.layer")
      const ask = yield* Effect.provide(admin(), Fibers.layer)
      assert.match((yield* ask("GET", "/debug/fibers")).text, /\d+ fibers/)
      assert.match((yield* ask("GET", "/debug/fibers", { accept: "application/json" })).text, /"frames":/)
    })
  )

  it.live("a profile and a snapshot are downloads, by POST only", () =>
    Effect.gen(function* () {
      const ask = yield* admin()
      for (const path of ["/debug/profile", "/debug/heap"]) assert.strictEqual((yield* ask("GET", path)).status, 405)
      const profile = yield* ask("POST", "/debug/profile?seconds=0.01")
      assert.strictEqual(profile.status, 200)
      assert.match(profile.text, /content-disposition: attachment; filename="\d+\.cpuprofile"/)
      assert.include(profile.text, '"nodes"')
      const heap = yield* ask("POST", "/debug/heap")
      assert.strictEqual(heap.status, 200)
      assert.match(heap.text, /filename="\d+\.heapsnapshot"/)
      assert.include(heap.text, '"snapshot"')
    })
  )

  it.live("the time of a profile is bounded, and there is one profile and one snapshot at a time", () =>
    Effect.gen(function* () {
      const ask = yield* admin()
      for (const seconds of ["0", "-1", "61", "many"]) {
        const { status, text } = yield* ask("POST", `/debug/profile?seconds=${seconds}`)
        assert.strictEqual(status, 400)
        assert.include(text, "at most 60")
      }
      const taking = yield* Effect.forkChild(CpuProfile.record("1 hour"), { startImmediately: true })
      assert.strictEqual((yield* ask("POST", "/debug/profile?seconds=0.01")).status, 409)
      yield* Fiber.interrupt(taking)
      assert.strictEqual((yield* ask("POST", "/debug/profile?seconds=0.01")).status, 200)
      const second = Effect.map(ask("POST", "/debug/heap"), ({ status }) => assert.strictEqual(status, 409))
      yield* HeapSnapshot.stream.pipe(
        Stream.take(1),
        Stream.runForEach(() => second)
      )
    })
  )

  it.live("a page in a browser reaches nothing but health", () =>
    Effect.gen(function* () {
      const ask = yield* admin({ hosts: ["Admin.internal"] })
      const refused: ReadonlyArray<Record<string, string>> = [
        { origin: "http://localhost" },
        { "sec-fetch-site": "cross-site" },
        { host: "evil.example" },
        { host: "evil.example:6060" },
        { host: "[::1" }
      ]
      for (const headers of refused) {
        const { status, text } = yield* ask("GET", "/metrics", headers)
        assert.strictEqual(status, 403, JSON.stringify(headers))
        assert.include(text, "refused: ")
        assert.strictEqual((yield* ask("POST", "/debug/heap", headers)).status, 403)
        assert.strictEqual((yield* ask("GET", "/health/live", headers)).status, 200)
      }
      for (const host of ["127.0.0.1:6060", "[::1]:6060", "LOCALHOST", "admin.internal:6060", "10.0.0.7"]) {
        assert.strictEqual((yield* ask("GET", "/metrics", { host })).status, 200, host)
      }
      assert.strictEqual((yield* ask("GET", "/metrics", { "sec-fetch-site": "none" })).status, 200)
    })
  )
})
