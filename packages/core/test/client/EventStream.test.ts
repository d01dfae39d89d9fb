import { assert, describe, it } from "@effect/vitest"
import { Clock, Duration, Effect, Fiber, Random, Schema, Stream } from "effect"
import { HttpClient, HttpClientRequest, HttpClientResponse } from "effect/http"
import { TestClock } from "effect/testing"
import * as EventStream from "../../src/client/EventStream.ts"
import { CircuitOpen, type PoolError, RateLimitExceeded, RetryExhausted } from "../../src/model/PoolError.ts"
import * as Policy from "../../src/policy/Policy.ts"
import { CountingClock, onWire, start, tagged, turn } from "../fixtures/pools.ts"
import { type Sent, Wire } from "../fixtures/wire.ts"

const sse = { "content-type": "text/event-stream" }

const get = HttpClientRequest.get("/events")
const post = HttpClientRequest.post("/complete").pipe(HttpClientRequest.bodyText("{}"))

/** Answers the n-th request as the n-th of these says; the last stands for all that follow. */
const wireOf = (...answers: readonly [...Array<(sent: Sent) => void>]) => {
  const wire: Wire = new Wire((sent) => {
    const answer = answers[Math.min(wire.sent.length, answers.length) - 1]
    answer?.(sent.write())
  })
  return wire
}

const whole = (text: string) => (sent: Sent) => void sent.head(200, sse).data(text).end()
const open = (text: string) => (sent: Sent) => void sent.head(200, sse).data(text)
const breaks = (text: string) => (sent: Sent) => void sent.head(200, sse).data(text).lose()
const status =
  (code: number, headers: Record<string, string> = {}) =>
  (sent: Sent) =>
    void sent
      .head(code, { "content-length": "2", ...headers })
      .data("no")
      .end()
const refuses = (sent: Sent) => void sent.refuse()
const nothing = (sent: Sent) => void sent.head(204, {}).end()

const ids = (wire: Wire) => wire.sent.map((sent) => sent.header("last-event-id"))

/** No luck in waits: none comes later than it must. */
const punctual = Effect.provideService(Random.Random, { nextDoubleUnsafe: () => 0, nextIntUnsafe: () => 0 })

/** Follows the stream and writes down what comes, as far as it comes without time. */
const follow = Effect.fnUntraced(function* (
  wire: Wire,
  options?: EventStream.Options,
  request: HttpClientRequest.HttpClientRequest = get
) {
  const pool = yield* onWire(wire, { size: 1 })
  const seen: Array<string> = []
  const fiber = yield* start(
    EventStream.make(pool, request, options).pipe(
      Stream.runForEach(({ data }) => Effect.sync(() => seen.push(data))),
      punctual
    )
  )
  return { fiber, pool, seen }
})

/** Time passes in one step, and what it starts is done. */
const pass = (millis: number) => Effect.andThen(TestClock.adjust(millis), turn)

const failure = <A, E>(fiber: Fiber.Fiber<A, E>) => Effect.flip(Fiber.join(fiber))

describe("EventStream", () => {
  it.effect("gives each event with its name and the id that holds", () =>
    Effect.gen(function* () {
      const pool = yield* onWire(wireOf(whole("id: 1\nevent: add\ndata: a\n\ndata: b\n\n")))
      const events = yield* Stream.runCollect(EventStream.make(pool, get, { reconnect: false }))
      assert.deepStrictEqual(events, [
        { event: "add", data: "a", id: "1" },
        { event: "message", data: "b", id: "1" }
      ])
    })
  )

  it.effect("asks for an event stream, uncached, unless the request says otherwise", () =>
    Effect.gen(function* () {
      const wire = wireOf(whole(""))
      const pool = yield* onWire(wire)
      yield* Stream.runDrain(EventStream.make(pool, get, { reconnect: false }))
      yield* Stream.runDrain(
        EventStream.make(pool, HttpClientRequest.setHeader(get, "accept", "*/*"), { reconnect: false })
      )
      assert.strictEqual(wire.at(0).header("accept"), "text/event-stream")
      assert.strictEqual(wire.at(0).header("cache-control"), "no-store")
      assert.strictEqual(wire.at(1).header("accept"), "*/*")
    })
  )

  describe("is taken up again", () => {
    it.effect("after an end and after a break, 3 s later, with the last id, over several connections", () =>
      Effect.gen(function* () {
        const wire = wireOf(whole("id: 1\ndata: a\n\n"), breaks("data: b\n\n"), whole("id: 3\ndata: c\n\n"), open(""))
        const { fiber, seen } = yield* follow(wire)
        assert.deepStrictEqual(seen, ["a"])
        yield* pass(2999)
        assert.strictEqual(wire.sent.length, 1)
        yield* pass(1)
        assert.deepStrictEqual(seen, ["a", "b"])
        yield* pass(3000)
        yield* pass(3000)
        assert.deepStrictEqual(seen, ["a", "b", "c"])
        assert.deepStrictEqual(ids(wire), [undefined, "1", "1", "3"])
        yield* Fiber.interrupt(fiber)
      })
    )

    it.effect("an event that the break left incomplete is dropped, with its id", () =>
      Effect.gen(function* () {
        const wire = wireOf(breaks("id: 1\ndata: a\n\nid: 2\ndata: half"), open(""))
        const { fiber, seen } = yield* follow(wire)
        yield* pass(3000)
        assert.deepStrictEqual(seen, ["a"])
        assert.deepStrictEqual(ids(wire), [undefined, "1"])
        yield* Fiber.interrupt(fiber)
      })
    )

    it.effect("after the server's last `retry`, also one that came without an event", () =>
      Effect.gen(function* () {
        const wire = wireOf(whole("retry: 50\n\ndata: a\n\nretry: 70\n"), open(""))
        const { fiber } = yield* follow(wire)
        yield* pass(69)
        assert.strictEqual(wire.sent.length, 1)
        yield* pass(1)
        assert.strictEqual(wire.sent.length, 2)
        yield* Fiber.interrupt(fiber)
      })
    )

    it.effect("a wait that the server wants longer than `maxReconnectDelay` is cut", () =>
      Effect.gen(function* () {
        const wire = wireOf(whole("retry: 99999999999999999999\ndata: a\n\n"), open(""))
        const { fiber } = yield* follow(wire, { maxReconnectDelay: "20 seconds" })
        yield* pass(20_000)
        assert.strictEqual(wire.sent.length, 2)
        yield* Fiber.interrupt(fiber)
      })
    )

    it.effect("waits double without an event and are as before after one", () =>
      Effect.gen(function* () {
        const wire = wireOf(whole("data: a\n\n"), whole(""), whole(""), whole("data: b\n\n"), open(""))
        const { fiber, seen } = yield* follow(wire, { reconnectDelay: 100 })
        const waits: Array<number> = []
        for (let n = 2; n <= 5; n++) {
          const before = yield* Clock.currentTimeMillis
          while (wire.sent.length < n) yield* pass(10)
          waits.push((yield* Clock.currentTimeMillis) - before)
        }
        assert.deepStrictEqual(waits, [100, 200, 400, 100])
        assert.deepStrictEqual(seen, ["a", "b"])
        yield* Fiber.interrupt(fiber)
      })
    )

    it.effect("`retry: 0` does not make a busy loop of connections that bring nothing", () =>
      Effect.gen(function* () {
        const wire = wireOf(whole("retry: 0\n\n"))
        const { fiber } = yield* follow(wire)
        yield* pass(0)
        const connections = wire.sent.length
        assert.isBelow(connections, 4)
        yield* pass(199)
        assert.strictEqual(wire.sent.length, connections)
        yield* Fiber.interrupt(fiber)
      })
    )

    it.effect("up to a fifth later, never earlier", () =>
      Effect.gen(function* () {
        const wire = wireOf(whole("data: a\n\n"), open(""))
        const pool = yield* onWire(wire)
        const late = Effect.provideService(Random.Random, { nextDoubleUnsafe: () => 0.999, nextIntUnsafe: () => 0 })
        const fiber = yield* start(Stream.runDrain(EventStream.make(pool, get)).pipe(late))
        yield* pass(3500)
        assert.strictEqual(wire.sent.length, 1)
        yield* pass(100)
        assert.strictEqual(wire.sent.length, 2)
        yield* Fiber.interrupt(fiber)
      })
    )

    it.effect("when the new connection is refused, and when it is answered by a 503, whose Retry-After counts", () =>
      Effect.gen(function* () {
        const wire = wireOf(
          whole("data: a\n\n"),
          refuses,
          status(503, { "retry-after": "30" }),
          whole("data: b\n\n"),
          open("")
        )
        const { fiber, seen } = yield* follow(wire, { reconnectDelay: 10 })
        yield* pass(10)
        yield* pass(1000)
        assert.strictEqual(wire.sent.length, 3)
        yield* pass(28_000)
        assert.strictEqual(wire.sent.length, 3)
        yield* pass(2_000)
        assert.deepStrictEqual(seen, ["a", "b"])
        yield* Fiber.interrupt(fiber)
      })
    )

    it.effect("and holds no slot meanwhile, whatever the refused answer still sends", () =>
      Effect.gen(function* () {
        const endless = (sent: Sent) => void sent.head(503, { "content-length": "1000000" }).data("x")
        const wire = wireOf(whole("data: a\n\n"), endless, open(""))
        const { fiber, pool } = yield* follow(wire, { reconnectDelay: 10 })
        yield* pass(10)
        assert.strictEqual(wire.sent.length, 2)
        assert.strictEqual((yield* pool.stats).active, 0)
        yield* Fiber.interrupt(fiber)
      })
    )

    it.effect("when a policy refuses the new connection for now, not before it would let it pass", () =>
      Effect.gen(function* () {
        const wire = wireOf(whole("data: a\n\n"), whole("data: b\n\n"), open(""))
        const pool = yield* onWire(wire)
        const refused = { request: { method: "GET", url: "/" }, attempts: 0 }
        const circuit = new CircuitOpen({ ...refused, retryAfter: Duration.seconds(9) })
        const limit = new RateLimitExceeded({ ...refused, retryAfter: Duration.seconds(8) })
        const last = new RetryExhausted({ ...refused, last: limit, reason: "deadline" })
        const refusals = [undefined, circuit, last, undefined, undefined]
        let asked = 0
        const policy = Policy.fromGates<PoolError>([
          {
            admit: () => {
              const refusal = refusals[asked++]
              return refusal === undefined ? undefined : Effect.fail(refusal)
            },
            settle: () => {}
          }
        ])
        const seen: Array<string> = []
        const fiber = yield* start(
          EventStream.make({ client: policy.wrap(pool.client) }, get, { reconnectDelay: 10 }).pipe(
            Stream.runForEach(({ data }) => Effect.sync(() => seen.push(data))),
            punctual
          )
        )
        yield* pass(10)
        assert.strictEqual(asked, 2)
        yield* pass(8999)
        assert.strictEqual(asked, 2)
        yield* pass(1)
        assert.strictEqual(asked, 3)
        yield* pass(8000)
        assert.deepStrictEqual(seen, ["a", "b"])
        yield* Fiber.interrupt(fiber)
      })
    )

    it.effect("a first id can be given, and one that is not ASCII is sent as UTF-8", () =>
      Effect.gen(function* () {
        const wire = wireOf(whole("id: é😀\ndata: a\n\n"), open(""))
        const { fiber } = yield* follow(wire, { lastEventId: "7" })
        yield* pass(3000)
        const [first, second = ""] = ids(wire)
        assert.strictEqual(first, "7")
        assert.strictEqual(new TextDecoder().decode(Uint8Array.from(second, (c) => c.charCodeAt(0))), "é😀")
        yield* Fiber.interrupt(fiber)
      })
    )

    it.effect("an empty id takes the header away", () =>
      Effect.gen(function* () {
        const wire = wireOf(whole("id: 1\ndata: a\n\nid\ndata: b\n\n"), open(""))
        const { fiber } = yield* follow(wire)
        yield* pass(3000)
        assert.deepStrictEqual(ids(wire), [undefined, undefined])
        yield* Fiber.interrupt(fiber)
      })
    )
  })

  describe("is over", () => {
    it.effect("for ever after 204", () =>
      Effect.gen(function* () {
        const wire = wireOf(whole("data: a\n\n"), nothing)
        const { fiber } = yield* follow(wire)
        yield* pass(3000)
        yield* Fiber.join(fiber)
        assert.strictEqual(wire.sent.length, 2)
      })
    )

    it.effect("without a second connection when `reconnect` is false", () =>
      Effect.gen(function* () {
        const wire = wireOf(whole("data: a\n\n"))
        const { fiber, seen } = yield* follow(wire, { reconnect: false })
        yield* Fiber.join(fiber)
        assert.deepStrictEqual(seen, ["a"])
      })
    )

    it.effect("with the event that `until` knows, which is not handed out; the slot is free", () =>
      Effect.gen(function* () {
        const wire = wireOf(open("data: a\n\ndata: [DONE]\n\ndata: b\n\n"))
        const { fiber, pool, seen } = yield* follow(wire, { until: (_) => _.data === "[DONE]" }, post)
        yield* Fiber.join(fiber)
        assert.deepStrictEqual(seen, ["a"])
        assert.strictEqual((yield* pool.stats).active, 0)
      })
    )

    it.effect("a stream that `until` is the first event of is empty", () =>
      Effect.gen(function* () {
        const wire = wireOf(open("data: [DONE]\n\n"))
        const { fiber, seen } = yield* follow(wire, { until: (_) => _.data === "[DONE]" })
        yield* Fiber.join(fiber)
        assert.deepStrictEqual(seen, [])
      })
    )
  })

  describe("fails", () => {
    it.effect("at once when the first connection cannot be made", () =>
      Effect.gen(function* () {
        const wire = wireOf(refuses)
        const { fiber } = yield* follow(wire)
        tagged(yield* failure(fiber), "ConnectError")
        assert.strictEqual(wire.sent.length, 1)
      })
    )

    it.effect("with the response for a status of 400 and above, which can still be read", () =>
      Effect.gen(function* () {
        for (const code of [400, 401, 404, 429, 500, 503, 301]) {
          const { fiber } = yield* follow(wireOf(status(code)))
          const { response } = tagged(yield* failure(fiber), "ResponseError")
          assert.strictEqual(response.status, code)
          assert.strictEqual(yield* response.text, "no")
        }
      })
    )

    it.effect("when a new connection is answered by 4xx, or by 5xx that is not to be waited out", () =>
      Effect.gen(function* () {
        const first = yield* follow(wireOf(whole("data: a\n\n"), status(404)))
        const second = yield* follow(wireOf(whole("data: a\n\n"), status(503)), { reconnectOnServerError: false })
        const third = yield* follow(wireOf(whole("data: a\n\n"), status(501)))
        yield* pass(3000)
        assert.strictEqual(tagged(yield* failure(first.fiber), "ResponseError").response.status, 404)
        assert.strictEqual(tagged(yield* failure(second.fiber), "ResponseError").response.status, 503)
        assert.strictEqual(tagged(yield* failure(third.fiber), "ResponseError").response.status, 501)
      })
    )

    it.effect("for an answer that is no event stream; the slot is free, and no byte of it is shown", () =>
      Effect.gen(function* () {
        for (const type of ["text/html", "text/event-streams", "application/json", undefined]) {
          const wire = wireOf(
            (sent) => void sent.head(200, type === undefined ? {} : { "content-type": type }).data("s3cret")
          )
          const { fiber, pool } = yield* follow(wire)
          const error = tagged(yield* failure(fiber), "DecodeError")
          assert.include(error.reason, "text/event-stream")
          assert.notInclude(String(error), "s3cret")
          assert.strictEqual((yield* pool.stats).active, 0)
        }
      })
    )

    it.effect("parameters of the content type, and its case, do not matter", () =>
      Effect.gen(function* () {
        for (const type of ["text/event-stream;charset=utf-8", "Text/Event-Stream ; x=y"]) {
          const wire = wireOf((sent) => void sent.head(200, { "content-type": type }).data("data: a\n\n").end())
          const { fiber, seen } = yield* follow(wire, { reconnect: false })
          yield* Fiber.join(fiber)
          assert.deepStrictEqual(seen, ["a"])
        }
      })
    )

    it.effect("after `maxReconnects` connections without an event, with what the last ended with", () =>
      Effect.gen(function* () {
        const ended = wireOf(whole("data: a\n\n"), whole(""))
        const refused = wireOf(whole("data: a\n\n"), refuses)
        const first = yield* follow(ended, { maxReconnects: 3, reconnectDelay: 10 })
        const second = yield* follow(refused, { maxReconnects: 3, reconnectDelay: 10 })
        for (let i = 0; i < 5; i++) yield* pass(1000)
        assert.include(tagged(yield* failure(first.fiber), "ConnectError").message, "3 reconnects after the last event")
        assert.strictEqual(tagged(yield* failure(second.fiber), "ConnectError").phase, "tcp")
        assert.strictEqual(ended.sent.length, 1 + 3)
        assert.strictEqual(refused.sent.length, 1 + 3)
      })
    )

    it.effect("for an event larger than `maxEventSize`, after those before it; the slot is free", () =>
      Effect.gen(function* () {
        const wire = wireOf(open(`data: a\n\ndata: ${"x".repeat(100)}`))
        const { fiber, pool, seen } = yield* follow(wire, { maxEventSize: 50 })
        assert.include(tagged(yield* failure(fiber), "DecodeError").reason, "maxEventSize")
        assert.deepStrictEqual(seen, ["a"])
        assert.strictEqual((yield* pool.stats).active, 0)
        assert.strictEqual(wire.sent.length, 1)
      })
    )

    it.effect("when the pool is closed while it waits for its next connection", () =>
      Effect.gen(function* () {
        const fiber = yield* Effect.scoped(
          Effect.gen(function* () {
            const pool = yield* onWire(wireOf(whole("data: a\n\n")))
            return yield* start(Effect.flip(Stream.runDrain(EventStream.make(pool, get))).pipe(punctual))
          })
        )
        yield* pass(3000)
        tagged(yield* Fiber.join(fiber), "PoolClosed")
      })
    )

    it.effect("with an error of the pool's, whatever client the source has", () =>
      Effect.gen(function* () {
        const body = new ReadableStream({ pull: (controller) => controller.error(new Error("reset")) })
        const other = HttpClient.make((request) =>
          Effect.succeed(HttpClientResponse.fromWeb(request, new Response(body, { headers: sse })))
        )
        const client = HttpClient.makeWith<PoolError, never, PoolError, never>(
          (effect) => Effect.flatMap(effect, (request) => Effect.orDie(other.execute(request))),
          Effect.succeed
        )
        const request = HttpClientRequest.get("http://other.test/")
        const stream = EventStream.make({ client }, request, { reconnect: false })
        tagged(yield* Effect.flip(Stream.runDrain(stream)), "InvalidRequest")
      })
    )

    it.effect("with all invalid options at once", () =>
      Effect.gen(function* () {
        const wire = wireOf(whole(""))
        const { fiber } = yield* follow(wire, { maxReconnects: -1, reconnectDelay: -5, lastEventId: "a\r\nb: c" })
        const error = tagged(yield* failure(fiber), "ConfigError")
        assert.deepStrictEqual(
          error.problems.map((_) => _.path),
          ["reconnectDelay", "maxReconnects", "lastEventId"]
        )
        assert.strictEqual(wire.sent.length, 0)
      })
    )
  })

  describe("POST", () => {
    it.effect("is never sent again by itself; a break is its failure", () =>
      Effect.gen(function* () {
        const wire = wireOf(breaks("data: a\n\n"))
        const { fiber, seen } = yield* follow(wire, {}, post)
        tagged(yield* failure(fiber), "ConnectError")
        assert.deepStrictEqual(seen, ["a"])
        assert.strictEqual(wire.sent.length, 1)
      })
    )

    it.effect("an end is its end, but with `until` the end before the last event is a break", () =>
      Effect.gen(function* () {
        const plain = yield* follow(wireOf(whole("data: a\n\n")), {}, post)
        yield* Fiber.join(plain.fiber)
        const cut = yield* follow(wireOf(whole("data: a\n\n")), { until: (_) => _.data === "[DONE]" }, post)
        assert.include(tagged(yield* failure(cut.fiber), "ConnectError").message, "before its last event")
      })
    )

    it.effect("is sent again, body and all, when told to", () =>
      Effect.gen(function* () {
        const wire = wireOf(whole("id: 4\ndata: a\n\n"), open(""))
        const { fiber } = yield* follow(wire, { reconnect: true }, post)
        yield* pass(3000)
        assert.deepStrictEqual(ids(wire), [undefined, "4"])
        assert.deepStrictEqual(
          wire.sent.map((_) => _.exchange.body._tag),
          ["Uint8Array", "Uint8Array"]
        )
        yield* Fiber.interrupt(fiber)
      })
    )
  })

  describe("schema", () => {
    const Tick = Schema.Struct({ n: Schema.Int })

    it.effect("decodes the data and keeps name and id", () =>
      Effect.gen(function* () {
        const pool = yield* onWire(wireOf(whole('event: tick\nid: 1\ndata: {"n":\ndata: 1}\n\n')))
        const events = yield* Stream.runCollect(EventStream.schema(pool, get, Tick, { reconnect: false }))
        assert.deepStrictEqual(events, [{ event: "tick", data: { n: 1 }, id: "1" }])
      })
    )

    it.effect("data that does not fit is a DecodeError that shows none of it", () =>
      Effect.gen(function* () {
        for (const data of ['{"n":"s3cret"}', "s3cret"]) {
          const pool = yield* onWire(wireOf(open(`data: ${data}\n\n`)))
          const error = tagged(yield* Effect.flip(Stream.runDrain(EventStream.schema(pool, get, Tick))), "DecodeError")
          assert.notInclude(JSON.stringify(error) + String(error), "s3cret")
          assert.strictEqual((yield* pool.stats).active, 0)
        }
      })
    )
  })

  describe("who leaves", () => {
    it.effect("while it streams frees the slot at once", () =>
      Effect.gen(function* () {
        const wire = wireOf(open("data: a\n\n"))
        const { fiber, pool } = yield* follow(wire)
        assert.strictEqual((yield* pool.stats).active, 1)
        yield* Fiber.interrupt(fiber)
        assert.strictEqual((yield* pool.stats).active, 0)
        assert.isTrue(wire.at(0).aborted)
      })
    )

    it.effect("after the first event, as by `Stream.take`, frees it too", () =>
      Effect.gen(function* () {
        const pool = yield* onWire(wireOf(open("data: a\n\ndata: b\n\n")), { size: 1 })
        for (let i = 0; i < 3; i++) {
          const events = yield* Stream.runCollect(Stream.take(EventStream.make(pool, get), 1))
          assert.strictEqual(events[0]?.data, "a")
          assert.strictEqual((yield* pool.stats).active, 0)
        }
      })
    )

    it.effect("while it waits leaves no timer", () =>
      Effect.gen(function* () {
        const clock = new CountingClock(yield* Clock.Clock)
        const wire = wireOf(whole("data: a\n\n"))
        const pool = yield* onWire(wire)
        const idle = clock.sleeping
        const fiber = yield* start(
          Stream.runDrain(EventStream.make(pool, get)).pipe(Effect.provideService(Clock.Clock, clock))
        )
        assert.strictEqual(clock.sleeping, idle + 1)
        yield* Fiber.interrupt(fiber)
        assert.strictEqual(clock.sleeping, idle)
        yield* pass(100_000)
        assert.strictEqual(wire.sent.length, 1)
      })
    )

    it.effect("at any moment leaves nothing", () =>
      Effect.gen(function* () {
        const wire = wireOf(whole("retry: 0\nid: 1\ndata: a\n\n"), open("data: b\n\n"))
        const pool = yield* onWire(wire, { size: 2 })
        for (let budget = 0; budget < 200; budget++) {
          let left = budget
          const fiber = yield* Effect.forkChild(
            EventStream.make(pool, get, { maxReconnectDelay: 0 }).pipe(
              Stream.runForEach(() => Effect.yieldNow),
              punctual
            )
          )
          while (left-- > 0) yield* Effect.yieldNow
          yield* Fiber.interrupt(fiber)
          const { active, waiting } = yield* pool.stats
          assert.deepStrictEqual([active, waiting], [0, 0], `after ${budget} steps`)
        }
      })
    )
  })

  it.effect("a slow consumer pauses the connection", () =>
    Effect.gen(function* () {
      const wire = wireOf(open("data: a\n\n"))
      const pool = yield* onWire(wire, { bodyBufferSize: 1024 })
      const fiber = yield* start(Stream.runForEach(EventStream.make(pool, get), () => Effect.never))
      for (let i = 0; i < 100 && !wire.at(0).paused; i++) wire.at(0).data(`data: ${"x".repeat(1000)}\n\n`)
      assert.isTrue(wire.at(0).paused)
      yield* Fiber.interrupt(fiber)
    })
  )
})
