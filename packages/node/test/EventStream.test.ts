/** Server-Sent Events on real sockets, as a server sends them and as it breaks them. */
import { assert, describe, it } from "@effect/vitest"
import { EventStream } from "@millrace/core"
import { Effect, Fiber, Stream } from "effect"
import { HttpClientRequest } from "effect/http"
import * as HostileServer from "./fixtures/HostileServer.ts"
import { eventually, poolOn, turn } from "./fixtures/pool.ts"

const head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"

const get = HttpClientRequest.get("/events")

describe("EventStream", () => {
  it.live("begins, breaks by a reset in the middle of an event, and goes on where it was", () =>
    Effect.gen(function* () {
      const server = yield* HostileServer.make((request) => {
        if (request.index === 0) {
          request.write(`${head}retry: 1\n\nid: é1\ndata: a\n\nid: 2\ndata: ha`)
          setImmediate(() => request.connection.reset())
        } else if (request.index === 1) {
          request.connection.end(`${head}data: b\r\n\r\n`)
        } else {
          request.answer("", "", 204)
        }
      })
      const pool = yield* poolOn(server)
      const events = yield* Stream.runCollect(EventStream.make(pool, get))
      assert.deepStrictEqual(
        events.map(({ data, id }) => [data, id]),
        [
          ["a", "é1"],
          ["b", "é1"]
        ]
      )
      // The server reads its headers as latin1.
      const ids = server.requests.map(({ headers }) => headers["last-event-id"])
      assert.deepStrictEqual(ids, [
        undefined,
        Buffer.from("é1").toString("latin1"),
        Buffer.from("é1").toString("latin1")
      ])
      yield* eventually(pool.stats, { active: 0, waiting: 0 })
    })
  )

  it.live("every byte in a packet of its own", () =>
    Effect.gen(function* () {
      const server = yield* HostileServer.make((request) => {
        const bytes = Buffer.from(`${head}\uFEFFdata: é€😀\r\ndata: 2\r\n\r\n`)
        const next = (at: number) => {
          if (at === bytes.length) return request.connection.end()
          request.connection.socket.write(bytes.subarray(at, at + 1), () => setImmediate(next, at + 1))
        }
        next(0)
      })
      const pool = yield* poolOn(server)
      const events = yield* Stream.runCollect(EventStream.make(pool, get, { reconnect: false }))
      assert.deepStrictEqual(events, [{ event: "message", data: "é€😀\n2", id: "" }])
    })
  )

  it.live("who leaves closes the connection at the server, and the slot is free", () =>
    Effect.gen(function* () {
      const server = yield* HostileServer.make((request) => request.write(`${head}data: a\n\n`))
      const pool = yield* poolOn(server, { size: 1 })
      const [first] = yield* Stream.runCollect(Stream.take(EventStream.make(pool, get), 1))
      assert.strictEqual(first?.data, "a")
      yield* server.allClosed
      const fiber = yield* Effect.forkChild(Stream.runDrain(EventStream.make(pool, get)))
      yield* server.received(2)
      yield* Fiber.interrupt(fiber)
      yield* server.allClosed
      yield* eventually(pool.stats, { active: 0, connectionsOpen: 0 })
    })
  )

  it.live("outlives `requestTimeout`", () =>
    Effect.gen(function* () {
      const server = yield* HostileServer.make((request) => {
        request.write(head)
        setTimeout(() => request.connection.end("data: late\n\n"), 150)
      })
      const pool = yield* poolOn(server, { requestTimeout: 50 })
      const events = yield* Stream.runCollect(EventStream.make(pool, get, { reconnect: false }))
      assert.strictEqual(events[0]?.data, "late")
    })
  )

  it.live("a language model's answer: POST, and the last event ends it while the connection stays", () =>
    Effect.gen(function* () {
      const server = yield* HostileServer.make((request) =>
        request.whole(() => request.write(`${head}data: ${request.text}\n\ndata: [DONE]\n\n`))
      )
      const pool = yield* poolOn(server)
      const post = HttpClientRequest.bodyText(HttpClientRequest.post("/complete"), "prompt")
      const events = yield* Stream.runCollect(EventStream.make(pool, post, { until: (_) => _.data === "[DONE]" }))
      assert.deepStrictEqual(
        events.map((_) => _.data),
        ["prompt"]
      )
      yield* server.allClosed
      assert.strictEqual(server.requests.length, 1)
    })
  )

  it.live("memory stays bounded when a server sends faster than events are taken", () =>
    Effect.gen(function* () {
      let sent = 0
      const server = yield* HostileServer.make((request) => {
        const { socket } = request.connection
        const event = `data: ${"x".repeat(16_384)}\n\n`
        const push = () => {
          while (sent < 256 * 1024 * 1024 && socket.write(event)) sent += event.length
        }
        request.write(head)
        socket.on("drain", push)
        push()
      })
      const pool = yield* poolOn(server)
      const fiber = yield* Effect.forkChild(
        Stream.runForEach(EventStream.make(pool, get), () => Effect.never),
        { startImmediately: true }
      )
      // Until the server could write no more for a thousand turns of the event loop.
      for (let turns = 0, before = 0; turns < 1000; turns++) {
        yield* turn
        if (before !== sent) turns = 0
        before = sent
      }
      assert.isAbove(sent, 0)
      assert.isBelow(sent, 32 * 1024 * 1024)
      yield* Fiber.interrupt(fiber)
      yield* server.allClosed
    })
  )
})
