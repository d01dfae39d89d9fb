import { assert, describe, it } from "@effect/vitest"
import { ServerTraffic } from "../../../src/server/internal/serverTraffic.ts"

const shown = (traffic: ServerTraffic) =>
  traffic.methods.map(({ active, ends, method }) => [
    method,
    active,
    Object.fromEntries(ends.map(({ durations, status }) => [String(status), durations.count]))
  ])

describe("ServerTraffic", () => {
  it("counts what is under way, and times what has ended, by method and status", () => {
    const traffic = new ServerTraffic()
    const first = traffic.begin("GET")
    const second = traffic.begin("GET")
    const third = traffic.begin("POST")
    assert.deepStrictEqual(shown(traffic), [
      ["GET", 2, {}],
      ["POST", 1, {}]
    ])
    first.ended(200, 30)
    second.ended(404, 40)
    third.ended(undefined, 50)
    traffic.begin("GET").ended(200, 70)
    assert.deepStrictEqual(shown(traffic), [
      ["GET", 0, { "200": 2, "404": 1 }],
      ["POST", 0, { undefined: 1 }]
    ])
    const [ok] = traffic.methods[0]!.ends
    assert.closeTo(ok!.durations.sum, 0.1, 1e-9, "seconds")
  })

  it("methods that nobody knows are one, however many a client makes up", () => {
    const traffic = new ServerTraffic()
    for (let i = 0; i < 100; i++) traffic.begin(`MADE-UP-${i}`).ended(405, 1)
    assert.deepStrictEqual(shown(traffic), [["_OTHER", 0, { "405": 100 }]])
  })

  it("what became another protocol is under way while it lasts, and is not timed", () => {
    const traffic = new ServerTraffic()
    const socket = traffic.begin("GET")
    assert.deepStrictEqual(shown(traffic), [["GET", 1, {}]])
    socket.left()
    assert.deepStrictEqual(shown(traffic), [["GET", 0, {}]])
  })

  it("tells each watcher of what is new, once, until it is told to stop", () => {
    const traffic = new ServerTraffic()
    let told = 0
    const tell = () => void told++
    const unwatch = [traffic.watch(tell), traffic.watch(tell)]
    traffic.begin("GET").ended(200, 1)
    assert.strictEqual(told, 4, "two of a method and a status")
    traffic.begin("GET").ended(200, 1)
    assert.strictEqual(told, 4)
    unwatch[0]?.()
    traffic.begin("GET").ended(500, 1)
    assert.strictEqual(told, 5)
    unwatch[1]?.()
    traffic.begin("PUT").ended(500, 1)
    assert.strictEqual(told, 5)
  })
})
