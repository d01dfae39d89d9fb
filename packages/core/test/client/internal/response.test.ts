import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Option, Schema, Stream } from "effect"
import { type HttpClientError, HttpClientResponse, UrlParams } from "effect/http"
import { TestClock } from "effect/testing"
import { inspect } from "node:util"
import type { Decompress, DecompressFailure } from "../../../src/client/Connector.ts"
import type { Options } from "../../../src/client/PoolConfig.ts"
import { wholeBodyOf } from "../../../src/model/internal/wholeBody.ts"
import * as PoolError from "../../../src/model/PoolError.ts"
import { onWire, start, tagged, text, turn } from "../../fixtures/pools.ts"
import { Wire } from "../../fixtures/wire.ts"

const KiB = 1024
const utf8 = new TextEncoder()

/** A pool of one slot, and a response of it of which the head has come. */
const answered = (
  headers: Record<string, string | Array<string>> = {},
  options: Options = {},
  decompress?: Decompress
) =>
  Effect.gen(function* () {
    const wire = new Wire((sent) => sent.write(), decompress)
    const pool = yield* onWire(wire, { size: 1, ...options })
    const fiber = yield* start(pool.client.get("/path?q=1"))
    const sent = wire.at(0).head(200, headers)
    return { wire, pool, sent, response: yield* Fiber.join(fiber) }
  })

/** A response that is complete when the caller gets it, as most are. */
const complete = (
  body: string | Uint8Array,
  headers: Record<string, string | Array<string>> = {},
  decompress?: Decompress
) =>
  Effect.gen(function* () {
    const wire = new Wire((sent) => sent.answer(body, 200, headers), decompress)
    const pool = yield* onWire(wire, { size: 1 })
    return yield* pool.client.get("/path?q=1")
  })

/** The `PoolError` inside of what reading a body failed with. */
const poolErrorOf = (error: HttpClientError.HttpClientError): PoolError.PoolError =>
  Option.getOrThrowWith(PoolError.fromHttpClientError(error), () => error)

const decodeErrorOf = (error: HttpClientError.HttpClientError) => {
  assert.strictEqual(error.reason._tag, "DecodeError")
  return tagged(poolErrorOf(error), "DecodeError")
}

const collect = <E>(stream: Stream.Stream<Uint8Array, E>) =>
  Effect.map(Stream.runCollect(stream), (chunks) => chunks.map((chunk) => new TextDecoder().decode(chunk)).join(""))

/** Undoes XOR with 1. */
const unflip = (chunk: Uint8Array, limit: number): Effect.Effect<Uint8Array, DecompressFailure> => {
  const fail = (reason: string) => Effect.fail({ _tag: "DecompressFailure", reason, cause: "test" } as const)
  if (chunk.includes(0)) return fail("it is damaged")
  return chunk.length > limit ? fail("it is too large") : Effect.succeed(chunk.map((byte) => byte ^ 1))
}

/** XOR with 1, as a coding that is easy to undo. */
const flip: Decompress = (encodings, limit) =>
  encodings.every((coding) => coding === "flip")
    ? (source) => Stream.mapEffect(source, (chunk) => unflip(chunk, limit))
    : undefined

const flipped = (plain: string) => utf8.encode(plain).map((byte) => byte ^ 1)

describe("response", () => {
  describe("tells", () => {
    it.effect("status, URL, request, headers, cookies", () =>
      Effect.gen(function* () {
        const response = yield* complete("", {
          "content-type": "text/plain",
          "X-Odd": "case",
          "x-many": ["a", "b"],
          "set-cookie": ["a=1; Path=/", "b=2; HttpOnly"]
        })
        assert.strictEqual(response.status, 200)
        assert.isTrue(HttpClientResponse.TypeId in response)
        assert.strictEqual(response.request.method, "GET")
        assert.strictEqual(response.headers["content-type"], "text/plain")
        assert.strictEqual(response.headers["x-odd"], "case")
        assert.strictEqual(response.headers["x-many"], "a, b")
        assert.deepStrictEqual(Object.keys(response.cookies.cookies), ["a", "b"])
        assert.deepStrictEqual(response.remoteAddress, Option.none())
        assert.strictEqual((yield* complete("")).cookies, (yield* complete("")).cookies)
      })
    )

    it.effect("a proxy its bytes, when all of them are here and nothing has to be decoded", () =>
      Effect.gen(function* () {
        const whole = yield* complete("abc")
        assert.deepStrictEqual(wholeBodyOf(whole), utf8.encode("abc").slice())
        assert.strictEqual(yield* whole.text, "abc")
        const encoded = yield* complete(flipped("abc"), { "content-encoding": "flip" }, flip)
        assert.strictEqual(wholeBodyOf(encoded), undefined)
        assert.strictEqual(yield* encoded.text, "abc")
        const { response } = yield* answered()
        assert.strictEqual(wholeBodyOf(response), undefined)
        const streamed = yield* complete("abc")
        assert.strictEqual(yield* collect(streamed.stream), "abc")
        assert.strictEqual(wholeBodyOf(streamed), undefined)
        const other = HttpClientResponse.fromWeb(whole.request, new Response("abc"))
        assert.strictEqual(wholeBodyOf(other), undefined)
      })
    )

    it.effect("itself, without touching its body", () =>
      Effect.gen(function* () {
        const { response, sent } = yield* answered(
          { "set-cookie": "session=s3cret", "x-plain": "seen" },
          { bodyBufferSize: KiB }
        )
        const shown = inspect(response) + JSON.stringify(response) + String(response)
        assert.include(shown, "seen")
        assert.include(shown, "HttpClientResponse")
        assert.notInclude(shown, "s3cret")
        sent.data(new Uint8Array(2 * KiB))
        assert.isTrue(sent.paused, "still nobody reads it")
      })
    )

    it.effect("that it cannot be upgraded", () =>
      Effect.gen(function* () {
        const error = yield* Effect.flip((yield* complete("")).upgrade)
        assert.include(error.message, "cannot be handed over")
      })
    )

    it.effect("works with Effect's own helpers", () =>
      Effect.gen(function* () {
        const decoded = yield* complete('{"a":1}').pipe(
          Effect.flatMap(HttpClientResponse.filterStatusOk),
          Effect.flatMap(HttpClientResponse.schemaBodyJson(Schema.Struct({ a: Schema.Int })))
        )
        assert.deepStrictEqual(decoded, { a: 1 })
        assert.strictEqual(
          (yield* complete("")).pipe((self) => self.status),
          200
        )
      })
    )
  })

  for (const [when, read] of [
    ["that is complete", complete],
    [
      "that comes while it is read",
      (body: string | Uint8Array, headers: Record<string, string> = {}) =>
        Effect.gen(function* () {
          const { response, sent } = yield* answered(headers)
          const bytes = typeof body === "string" ? utf8.encode(body) : body
          yield* Effect.forkScoped(
            Effect.gen(function* () {
              yield* turn
              for (let i = 0; i < bytes.length; i += 3) {
                sent.data(bytes.slice(i, i + 3))
                yield* turn
              }
              sent.end()
            })
          )
          return response
        })
    ]
  ] as const) {
    describe(`a body ${when}`, () => {
      it.effect("as text", () =>
        Effect.gen(function* () {
          assert.strictEqual(yield* text(read("grüße 😀")), "grüße 😀")
        })
      )

      it.effect("as text without its byte order mark, but with a second one", () =>
        Effect.gen(function* () {
          assert.strictEqual(yield* text(read("\ufeffa")), "a")
          assert.strictEqual(yield* text(read("\ufeff\ufeffa")), "\ufeffa")
        })
      )

      it.effect("as text that is not UTF-8, with replacement characters", () =>
        Effect.gen(function* () {
          assert.strictEqual(yield* text(read(Uint8Array.of(97, 0xff, 98))), "a\ufffdb")
        })
      )

      it.effect("as JSON", () =>
        Effect.gen(function* () {
          assert.deepStrictEqual(yield* (yield* read('\ufeff{"a":[1,null]}')).json, { a: [1, null] })
        })
      )

      it.effect("as bytes that belong to the caller", () =>
        Effect.gen(function* () {
          const response = yield* read("abc")
          const buffer = yield* response.arrayBuffer
          assert.deepStrictEqual(new Uint8Array(buffer), utf8.encode("abc"))
          new Uint8Array(buffer).fill(0)
          assert.strictEqual(yield* response.text, "abc")
        })
      )

      it.effect("as a stream", () =>
        Effect.gen(function* () {
          assert.strictEqual(yield* collect((yield* read("a stream of bytes")).stream), "a stream of bytes")
        })
      )

      it.effect("as form data", () =>
        Effect.gen(function* () {
          const form = yield* (yield* read("a=1&b=x+y", { "content-type": "application/x-www-form-urlencoded" }))
            .formData
          assert.deepStrictEqual(
            [...form.entries()],
            [
              ["a", "1"],
              ["b", "x y"]
            ]
          )
        })
      )

      it.effect("as URL parameters, of which a leading question mark is part", () =>
        Effect.gen(function* () {
          const params = (body: string) =>
            Effect.map(
              Effect.flatMap(read(body), (_) => _.urlParamsBody),
              (_) => UrlParams.toRecord(_)
            )
          assert.deepStrictEqual({ ...(yield* params("a=1&b=2&b=3")) }, { a: "1", b: ["2", "3"] })
          assert.deepStrictEqual({ ...(yield* params("?a=1")) }, { "?a": "1" })
        })
      )

      it.effect("that is empty", () =>
        Effect.gen(function* () {
          assert.strictEqual(yield* text(read("")), "")
          assert.strictEqual(yield* (yield* read("")).json, null)
          assert.strictEqual((yield* (yield* read("")).arrayBuffer).byteLength, 0)
          assert.strictEqual(yield* collect((yield* read("")).stream), "")
        })
      )

      it.effect("twice, in any form", () =>
        Effect.gen(function* () {
          const response = yield* read('{"a":1}')
          assert.strictEqual(yield* response.text, '{"a":1}')
          assert.strictEqual(yield* response.text, '{"a":1}')
          assert.deepStrictEqual(yield* response.json, { a: 1 })
          assert.strictEqual((yield* response.arrayBuffer).byteLength, 7)
        })
      )

      it.effect("as text and then as a stream", () =>
        Effect.gen(function* () {
          const response = yield* read("both")
          assert.strictEqual(yield* response.text, "both")
          assert.strictEqual(yield* collect(response.stream), "both")
          assert.strictEqual(yield* collect(response.stream), "both")
          assert.strictEqual(yield* response.text, "both")
        })
      )

      it.effect("as a stream and then in any form: an error that says so", () =>
        Effect.gen(function* () {
          const response = yield* read("once")
          const early = response.text
          yield* Stream.runDrain(response.stream)
          const errors = [
            yield* Effect.flip(response.text),
            yield* Effect.flip(early),
            yield* Effect.flip(response.json),
            yield* Effect.flip(response.arrayBuffer),
            yield* Effect.flip(collect(response.stream))
          ]
          for (const error of errors) assert.include(decodeErrorOf(error).message, "stream")
        })
      )

      it.effect("that is not JSON", () =>
        Effect.gen(function* () {
          const response = yield* read("{not json", { "content-type": "text/odd" })
          const error = decodeErrorOf(yield* Effect.flip(response.json))
          assert.strictEqual(error.reason, "it is not JSON but text/odd, 9 bytes")
          assert.isUndefined(error.cause, "the engine's error quotes the body")
          for (const shown of [String(error), JSON.stringify(error), inspect(error, { depth: 10 })]) {
            assert.notInclude(shown, "{not")
          }
          assert.deepStrictEqual(error.request, { method: "GET", url: "http://test.local/path?q=1" })
          assert.strictEqual(error.attempts, 1)
          assert.strictEqual(yield* response.text, "{not json", "and can be looked at")
        })
      )

      it.effect("that is not JSON, and of no type", () =>
        Effect.gen(function* () {
          const error = decodeErrorOf(yield* Effect.flip((yield* read("[")).json))
          assert.strictEqual(error.reason, "it is not JSON but of no type, 1 bytes")
        })
      )

      it.effect("that is not form data", () =>
        Effect.gen(function* () {
          const error = decodeErrorOf(
            yield* Effect.flip((yield* read("?", { "content-type": "multipart/form-data" })).formData)
          )
          assert.include(error.message, "it is not form data")
        })
      )
    })
  }

  describe("a body that nobody reads", () => {
    it.effect("frees its slot when it is complete", () =>
      Effect.gen(function* () {
        const { pool, sent } = yield* answered()
        sent.data("small").end()
        assert.strictEqual((yield* pool.stats).active, 0)
        yield* start(pool.client.get("/next"))
        assert.strictEqual((yield* pool.stats).connectionsOpened, 1)
      })
    )

    it.effect("pauses its connection above bodyBufferSize, and keeps its slot", () =>
      Effect.gen(function* () {
        const { pool, response, sent } = yield* answered({}, { bodyBufferSize: KiB })
        sent.data(new Uint8Array(KiB))
        assert.isFalse(sent.paused)
        sent.data(new Uint8Array(1))
        assert.isTrue(sent.paused)
        assert.strictEqual((yield* pool.stats).active, 1)
        const reading = yield* start(response.arrayBuffer)
        assert.isFalse(sent.paused)
        sent.data(new Uint8Array(3 * KiB)).end()
        assert.strictEqual((yield* Fiber.join(reading)).byteLength, 4 * KiB + 1)
        assert.strictEqual(sent.pauses, 1)
      })
    )
  })

  describe("a stream", () => {
    it.effect("gives chunks as they come", () =>
      Effect.gen(function* () {
        const { response, sent } = yield* answered()
        const seen: Array<number> = []
        const reading = yield* start(
          Stream.runForEach(response.stream, (chunk) => Effect.sync(() => seen.push(chunk.length)))
        )
        sent.data("a")
        yield* turn
        assert.deepStrictEqual(seen, [1])
        sent.data("bb").data("ccc")
        yield* turn
        assert.deepStrictEqual(seen, [1, 2, 3])
        sent.end()
        yield* Fiber.join(reading)
      })
    )

    it.effect("pauses the connection while its reader is slow, and loses nothing", () =>
      Effect.gen(function* () {
        const { response, sent } = yield* answered({}, { bodyBufferSize: KiB })
        const gate = yield* Deferred.make<void>()
        const reading = yield* start(
          Stream.runFold(
            Stream.mapEffect(response.stream, (chunk) => Effect.as(Deferred.await(gate), chunk.length)),
            () => 0,
            (sum, length) => sum + length
          )
        )
        sent.data(new Uint8Array(1))
        yield* turn
        sent.data(new Uint8Array(KiB))
        assert.isFalse(sent.paused)
        sent.data(new Uint8Array(1))
        assert.isTrue(sent.paused)
        yield* Deferred.succeed(gate, undefined)
        yield* turn
        assert.isFalse(sent.paused)
        sent.end()
        assert.strictEqual(yield* Fiber.join(reading), KiB + 2)
      })
    )

    it.effect("that is left early frees the slot at once, and the connection is not used again", () =>
      Effect.gen(function* () {
        const { pool, response, sent, wire } = yield* answered()
        sent.data("first").data("second")
        const taken = yield* Stream.runCollect(Stream.take(response.stream, 1))
        assert.strictEqual(taken.length, 1)
        assert.isTrue(sent.aborted)
        assert.strictEqual((yield* pool.stats).active, 0)
        wire.onSend = (next) => next.answer("next")
        assert.strictEqual(yield* text(pool.client.get("/")), "next")
        assert.strictEqual(wire.opened, 2)
      })
    )

    it.effect("of which nothing is taken frees the slot too", () =>
      Effect.gen(function* () {
        const { pool, response } = yield* answered()
        const fiber = yield* start(Stream.runDrain(response.stream))
        yield* Fiber.interrupt(fiber)
        assert.strictEqual((yield* pool.stats).active, 0)
      })
    )

    it.effect("that breaks gives what had come, and then the error", () =>
      Effect.gen(function* () {
        const { response, sent } = yield* answered()
        const seen: Array<number> = []
        const reading = yield* start(
          Effect.flip(Stream.runForEach(response.stream, (chunk) => Effect.sync(() => seen.push(chunk.length))))
        )
        sent.data("abc").lose()
        const error = yield* Fiber.join(reading)
        assert.deepStrictEqual(seen, [3])
        assert.strictEqual(tagged(poolErrorOf(error), "ConnectError").phase, "response")
      })
    )

    it.effect("does not take the body from somebody who collects it", () =>
      Effect.gen(function* () {
        const { response, sent } = yield* answered()
        const whole = yield* start(response.text)
        const streamed = yield* start(collect(response.stream))
        sent.data("for ").data("both").end()
        assert.strictEqual(yield* Fiber.join(whole), "for both")
        assert.strictEqual(yield* Fiber.join(streamed), "for both")
      })
    )

    it.effect("does not let another collect while it is read", () =>
      Effect.gen(function* () {
        const { response, sent } = yield* answered()
        const streamed = yield* start(collect(response.stream))
        sent.data("mine")
        yield* turn
        assert.include(decodeErrorOf(yield* Effect.flip(response.text)).message, "stream")
        assert.include(decodeErrorOf(yield* Effect.flip(collect(response.stream))).message, "stream")
        sent.end()
        assert.strictEqual(yield* Fiber.join(streamed), "mine")
      })
    )
  })

  describe("readers", () => {
    it.effect("several at once get the same", () =>
      Effect.gen(function* () {
        const { response, sent } = yield* answered()
        const readers = yield* start(
          Effect.all([response.text, response.json, response.text], { concurrency: "unbounded" })
        )
        sent.data("[1,").data("2]").end()
        assert.deepStrictEqual(yield* Fiber.join(readers), ["[1,2]", [1, 2], "[1,2]"])
      })
    )

    it.effect("one that is interrupted leaves the body to the others", () =>
      Effect.gen(function* () {
        const { response, sent } = yield* answered()
        const gone = yield* start(response.text)
        const stays = yield* start(response.text)
        yield* Fiber.interrupt(gone)
        assert.isFalse(sent.aborted)
        sent.data("still").end()
        assert.strictEqual(yield* Fiber.join(stays), "still")
      })
    )

    it.effect("the last one that is interrupted frees the slot at once", () =>
      Effect.gen(function* () {
        const { pool, response, sent } = yield* answered()
        const readers = [yield* start(response.text), yield* start(response.json)]
        sent.data("part")
        for (const reader of readers) yield* Fiber.interrupt(reader)
        assert.isTrue(sent.aborted)
        assert.strictEqual((yield* pool.stats).active, 0)
        const error = decodeErrorOf(yield* Effect.flip(response.text))
        assert.include(error.message, "interrupted", "a part is not taken for the whole")
      })
    )

    it.effect("one that is interrupted between the last byte and its wake-up does no harm", () =>
      Effect.gen(function* () {
        const { pool, response, sent } = yield* answered()
        const gone = yield* start(response.text)
        const stays = yield* start(response.text)
        sent.data("all").end()
        gone.interruptUnsafe()
        assert.strictEqual(yield* Fiber.join(stays), "all")
        assert.isTrue(Exit.hasInterrupts(yield* Fiber.await(gone)))
        assert.strictEqual(yield* response.text, "all")
        assert.strictEqual((yield* pool.stats).active, 0)
      })
    )

    it.effect("all fail when the connection breaks, and so do later ones", () =>
      Effect.gen(function* () {
        const { response, sent } = yield* answered()
        const readers = [yield* start(Effect.flip(response.text)), yield* start(Effect.flip(response.json))]
        sent.data("part").lose()
        for (const reader of readers) tagged(poolErrorOf(yield* Fiber.join(reader)), "ConnectError")
        const error = yield* Effect.flip(response.arrayBuffer)
        assert.strictEqual(error.reason._tag, "TransportError")
        tagged(poolErrorOf(error), "ConnectError")
      })
    )

    it.effect("fail when the body breaks before anybody reads, also as a stream", () =>
      Effect.gen(function* () {
        const { response, sent } = yield* answered()
        sent.fail({ _tag: "Protocol", reason: "its chunks are malformed", cause: undefined })
        assert.include(decodeErrorOf(yield* Effect.flip(response.text)).message, "its chunks are malformed")
        assert.include(decodeErrorOf(yield* Effect.flip(collect(response.stream))).message, "its chunks are malformed")
      })
    )

    it.effect("fail when the pool closes", () =>
      Effect.gen(function* () {
        const error = yield* Effect.gen(function* () {
          const { response } = yield* answered()
          return yield* Effect.forkDetach(Effect.flip(response.text), { startImmediately: true })
        }).pipe(Effect.scoped, Effect.flatMap(Fiber.join))
        tagged(poolErrorOf(error), "PoolClosed")
      })
    )
  })

  describe("a coding", () => {
    it.effect("is undone, in every form, and its headers go with it", () =>
      Effect.gen(function* () {
        const headers = { "content-encoding": "FLIP", "content-length": "8", "x-other": "stays" }
        const response = yield* complete(flipped('{"a":12}'), headers, flip)
        assert.strictEqual(yield* response.text, '{"a":12}')
        assert.deepStrictEqual(yield* response.json, { a: 12 })
        assert.strictEqual(yield* response.text, '{"a":12}')
        assert.deepStrictEqual(Object.keys(response.headers), ["x-other"])
        assert.strictEqual(yield* collect((yield* complete(flipped("streamed"), headers, flip)).stream), "streamed")
      })
    )

    it.effect("is no hindrance to several readers, nor to a stream after a text", () =>
      Effect.gen(function* () {
        const headers = { "content-encoding": "flip" }
        for (const early of [true, false]) {
          const { response, sent } = yield* answered(headers, {}, flip)
          if (early) sent.data(flipped("[1]")).end()
          const readers = yield* start(Effect.all([response.text, response.json], { concurrency: "unbounded" }))
          if (!early) sent.data(flipped("[1]")).end()
          assert.deepStrictEqual(yield* Fiber.join(readers), ["[1]", [1]])
          assert.strictEqual(yield* collect(response.stream), "[1]")
          assert.strictEqual(yield* response.text, "[1]")
        }
      })
    )

    it.effect("is undone twice when it was done twice, without `identity`", () =>
      Effect.gen(function* () {
        const seen: Array<ReadonlyArray<string>> = []
        const noting: Decompress = (encodings, limit) => {
          seen.push(encodings)
          return flip(encodings, limit)
        }
        const response = yield* complete(flipped("x"), { "content-encoding": ["flip, identity", "flip"] }, noting)
        assert.strictEqual(yield* response.text, "x")
        assert.deepStrictEqual(seen[0], ["flip", "flip"])
      })
    )

    it.effect("that is not known, or none, leaves the body as it is", () =>
      Effect.gen(function* () {
        for (const coding of ["br", "identity", ""]) {
          const response = yield* complete("raw", { "content-encoding": coding }, flip)
          assert.strictEqual(yield* response.text, "raw")
          assert.strictEqual(response.headers["content-encoding"], coding)
        }
        assert.strictEqual(yield* text(complete("raw", { "content-encoding": "flip" })), "raw", "no decompressor")
      })
    )

    it.effect("that the caller asked for itself is the caller's, and so is one with `decompress: false`", () =>
      Effect.gen(function* () {
        const wire = new Wire((sent) => sent.answer(flipped("x"), 200, { "content-encoding": "flip" }), flip)
        const pool = yield* onWire(wire)
        assert.strictEqual(yield* text(pool.client.get("/")), "x")
        assert.strictEqual(yield* text(pool.client.get("/", { headers: { "accept-encoding": "flip" } })), "y")
        const raw = yield* onWire(wire, { decompress: false })
        assert.strictEqual(yield* text(raw.client.get("/")), "y")
      })
    )

    it.effect("is only asked for when it can be undone", () =>
      Effect.gen(function* () {
        const asked = (decompress: Decompress | undefined, options: Options, headers = {}) =>
          Effect.gen(function* () {
            const wire = new Wire((sent) => sent.answer(), decompress)
            const pool = yield* onWire(wire, options)
            yield* pool.client.get("/", { headers })
            return wire.at(0).header("accept-encoding")
          })
        assert.strictEqual(yield* asked(flip, {}), "gzip, deflate, br, zstd")
        assert.isUndefined(yield* asked(undefined, {}))
        assert.isUndefined(yield* asked(flip, { decompress: false }))
        assert.strictEqual(yield* asked(flip, { headers: { "Accept-Encoding": "gzip" } }), "gzip")
        assert.strictEqual(yield* asked(flip, {}, { "accept-encoding": "br" }), "br")
      })
    )

    it.effect("is not asked for with a range, as a part of a compressed body cannot be undone", () =>
      Effect.gen(function* () {
        const range = { range: "bytes=0-9" }
        const wire = new Wire((sent) => sent.answer(), flip)
        for (const options of [{}, { headers: { "accept-encoding": "gzip", "x-team": "blue" } }]) {
          const pool = yield* onWire(wire, options)
          yield* pool.client.get("/", { headers: range })
          assert.isUndefined(wire.at(-1).header("accept-encoding"))
          yield* pool.client.get("/", { headers: { ...range, "accept-encoding": "br" } })
          assert.strictEqual(wire.at(-1).header("accept-encoding"), "br", "but by the caller")
          yield* pool.client.get("/", { headers: { "x-other": "1" } })
          assert.isDefined(wire.at(-1).header("accept-encoding"))
        }
        assert.strictEqual(wire.at(3).header("x-team"), "blue", "the other defaults stay")
      })
    )

    it.effect("of a part (206) is left as it is; that of a whole is undone, also when a part was asked for", () =>
      Effect.gen(function* () {
        const headers = { "content-encoding": "flip", "content-length": "4" }
        const wire = new Wire((sent) => sent.answer(flipped("part"), sent.path === "/part" ? 206 : 200, headers), flip)
        const pool = yield* onWire(wire)
        for (const range of [{ range: "bytes=0-3" }, {}]) {
          const part = yield* pool.client.get("/part", { headers: range })
          assert.deepStrictEqual(Object.entries(part.headers), Object.entries(headers))
          assert.deepStrictEqual(new Uint8Array(yield* part.arrayBuffer), flipped("part"))
          assert.strictEqual(yield* collect(part.stream), new TextDecoder().decode(flipped("part")))
          assert.strictEqual(yield* text(pool.client.get("/whole", { headers: range })), "part")
        }
      })
    )

    it.effect("that is damaged, or expands too far, is a DecodeError", () =>
      Effect.gen(function* () {
        const damaged = yield* complete(Uint8Array.of(0), { "content-encoding": "flip" }, flip)
        const error = decodeErrorOf(yield* Effect.flip(damaged.text))
        assert.include(error.message, "it is damaged")
        assert.strictEqual(error.cause, "test")
        const wire = new Wire(
          (sent) => sent.answer(new Uint8Array(2 * KiB).fill(1), 200, { "content-encoding": "flip" }),
          flip
        )
        const pool = yield* onWire(wire, { bodyBufferSize: KiB, maxDecompressedSize: KiB })
        const large = yield* pool.client.get("/")
        assert.include(decodeErrorOf(yield* Effect.flip(collect(large.stream))).message, "it is too large")
      })
    )
  })

  it.effect("does not wait for time", () =>
    Effect.gen(function* () {
      const { response, sent } = yield* answered()
      const reading = yield* start(response.text)
      sent.data("x")
      yield* TestClock.adjust("59 seconds")
      sent.data("y")
      yield* TestClock.adjust("59 seconds")
      sent.end()
      assert.strictEqual(yield* Fiber.join(reading), "xy")
    })
  )
})
