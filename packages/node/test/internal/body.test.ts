import { assert, describe, it } from "@effect/vitest"
import { Context, Deferred, Effect, Queue, Stream } from "effect"
import * as HttpBody from "effect/http/HttpBody"
import { Readable } from "node:stream"
import * as Undici from "undici"
import { encode, type Encoded, RequestBodyError } from "../../src/internal/body.ts"
import { Later } from "../fixtures/net.ts"

const services = Context.empty()

const encoded = (body: HttpBody.HttpBody): Encoded => {
  const result = encode(body, services)
  if (result instanceof RequestBodyError) throw result
  return result
}

const iterator = ({ body }: Encoded): AsyncIterator<Uint8Array> => {
  if (body === null || typeof body === "string" || !(Symbol.asyncIterator in body)) throw new Error("no iterable")
  return body[Symbol.asyncIterator]()
}

const text = (encoded: Encoded): Effect.Effect<string> =>
  Effect.promise(async () => {
    const reader = iterator(encoded)
    const all: Array<Uint8Array> = []
    for (let next = await reader.next(); next.done !== true; next = await reader.next()) all.push(next.value)
    return Buffer.concat(all).toString()
  })

const rejection = (promise: Promise<unknown>): Effect.Effect<RequestBodyError> =>
  Effect.promise(() =>
    promise.then(
      () => Promise.reject(new Error("not rejected")),
      (error: unknown) =>
        error instanceof RequestBodyError ? error : Promise.reject(new Error("other", { cause: error }))
    )
  )

const streamed = (stream: Stream.Stream<Uint8Array, unknown>, options?: { readonly contentLength?: number }) =>
  encoded(HttpBody.stream(stream, "text/plain", options?.contentLength))

const chunk = (text: string): Uint8Array => Buffer.from(text)

describe("body", () => {
  it("empty, text, bytes", () => {
    assert.isNull(encoded(HttpBody.empty).body)
    assert.deepInclude(encoded(HttpBody.text("hé")), { body: "hé", contentType: "text/plain", contentLength: 3 })
    const bytes = new Uint8Array([1, 2])
    assert.deepInclude(encoded(HttpBody.uint8Array(bytes, "x/y")), {
      body: bytes,
      contentType: "x/y",
      contentLength: 2
    })
    encoded(HttpBody.text("x")).cancel()
  })

  describe("raw", () => {
    it("text, bytes, buffers, views, parameters, nothing", () => {
      assert.deepInclude(encoded(HttpBody.raw("hé", { contentType: "a/b" })), {
        body: "hé",
        contentType: "a/b",
        contentLength: 3
      })
      assert.deepInclude(encoded(HttpBody.raw(chunk("x"))), { contentLength: 1 })
      assert.deepStrictEqual(encoded(HttpBody.raw(new Uint8Array([1, 2]).buffer)).body, new Uint8Array([1, 2]))
      assert.deepStrictEqual(
        encoded(HttpBody.raw(new DataView(new Uint8Array([1, 2, 3]).buffer, 1, 1))).body,
        new Uint8Array([2])
      )
      assert.deepInclude(encoded(HttpBody.raw(new URLSearchParams({ a: "b c" }))), {
        body: "a=b+c",
        contentType: "application/x-www-form-urlencoded;charset=UTF-8",
        contentLength: 5
      })
      assert.isNull(encoded(HttpBody.raw(null)).body)
      assert.isNull(encoded(HttpBody.raw(undefined)).body)
    })

    it.live("blobs and files: type and length are known, bytes come when asked for", () =>
      Effect.gen(function* () {
        const blob = encoded(HttpBody.raw(new Blob(["a", "b"], { type: "text/x" })))
        assert.deepInclude(blob, { contentType: "text/x", contentLength: 2 })
        assert.strictEqual(yield* text(blob), "ab")
        const file = encoded(HttpBody.raw(new File(["abc"], "f"), { contentType: "a/b" }))
        assert.deepInclude(file, { contentType: "a/b", contentLength: 3 })
        assert.strictEqual(yield* text(file), "abc")
        assert.isUndefined(encoded(HttpBody.raw(new Blob(["a"]))).contentType)
        // A stream that is passed on may have come without one.
        assert.isUndefined(encoded(HttpBody.stream(Stream.empty, "")).contentType)
      })
    )

    it.live("web streams of bytes and text; anything else in them is an error; cancelling cancels them", () =>
      Effect.gen(function* () {
        const web = (...chunks: ReadonlyArray<unknown>) => encoded(HttpBody.raw(ReadableStream.from(chunks)))
        assert.strictEqual(yield* text(web(chunk("a"), "b")), "ab")
        const error = yield* rejection(iterator(web({})).next())
        assert.strictEqual(error.message, "a chunk of the request body is an object (Object), not bytes or text")
        const cancelled = new Later<void>()
        const open = encoded(
          HttpBody.raw(
            new ReadableStream({
              cancel: () => cancelled.resolve()
            })
          )
        )
        const pending = iterator(open).next()
        open.cancel()
        yield* rejection(pending)
        yield* cancelled.wait
        const locked = new ReadableStream()
        locked.getReader()
        assert.instanceOf(encode(HttpBody.raw(locked), services), RequestBodyError)
      })
    )

    it.live("Node streams go as they are; cancelling destroys them", () =>
      Effect.gen(function* () {
        const readable = Readable.from([chunk("a")])
        const body = encoded(HttpBody.raw(readable, { contentLength: 1 }))
        assert.strictEqual(body.body, readable)
        assert.strictEqual(body.contentLength, 1)
        body.cancel()
        assert.isTrue(readable.destroyed)
        assert.instanceOf(encode(HttpBody.raw(readable), services), RequestBodyError)
      })
    )

    it("anything else is an error that says what it is", () => {
      const message = (body: unknown) => {
        const result = encode(HttpBody.raw(body), services)
        return result instanceof RequestBodyError ? result.message : "accepted"
      }
      assert.match(message({ a: 1 }), /^the request body is an object \(Object\); use text/)
      assert.match(message(Object.create(null)), /an object \(no class\)/)
      assert.match(message(1), /a number/)
    })
  })

  it("what throws when it is looked at is an error, too", () => {
    const { proxy, revoke } = Proxy.revocable({}, {})
    revoke()
    const thrown = Object.create(null)
    const message = (entries: () => unknown) => {
      const result = encode(HttpBody.formData({ entries } as unknown as FormData), services)
      return result instanceof RequestBodyError ? result.message : "accepted"
    }
    const failing = (error: unknown) => () => {
      throw error
    }
    assert.match(
      message(() => [["file", { name: "f.txt" }]]),
      /^the request body cannot be read: .*Blob/
    )
    assert.include(message(failing(new Error("gone"))), "read: gone")
    assert.include(message(failing("text")), "read: text")
    assert.include(message(failing(thrown)), "no text")
    assert.instanceOf(encode(HttpBody.raw(proxy), services), RequestBodyError)
  })

  it("forms become undici's own: names, values, file names and types stay", async () => {
    const form = new FormData()
    form.append("a", "1")
    form.append("a", "é")
    form.append("f", new File(["content"], "name.txt", { type: "text/x" }))
    form.append("g", new Blob(["blob"]))
    const own = encoded(HttpBody.formData(form)).body
    for (const body of [HttpBody.formData(form), HttpBody.raw(form), HttpBody.raw(own)]) {
      const copy = encoded(body).body
      assert.instanceOf(copy, Undici.FormData)
      if (!(copy instanceof Undici.FormData)) return
      assert.deepStrictEqual(copy.getAll("a"), ["1", "é"])
      const file = copy.get("f")
      if (file === null || typeof file === "string") return assert.fail("no file")
      assert.deepStrictEqual([file.name, file.type, await file.text()], ["name.txt", "text/x", "content"])
      const blob = copy.get("g")
      assert.strictEqual(typeof blob === "object" && blob?.name, "blob")
    }
  })

  describe("stream", () => {
    it.live("all chunks in order, type and length as given, and it ends for good", () =>
      Effect.gen(function* () {
        const body = streamed(Stream.make(chunk("a"), chunk("b"), chunk("c")), { contentLength: 3 })
        assert.deepInclude(body, { contentType: "text/plain", contentLength: 3 })
        assert.strictEqual(yield* text(body), "abc")
        assert.deepStrictEqual(yield* Effect.promise(() => iterator(body).next()), { done: true, value: undefined })
        body.cancel()
        assert.deepStrictEqual(yield* Effect.promise(() => iterator(body).next()), { done: true, value: undefined })
      })
    )

    it.live("nothing runs before the first pull, and no further than it is pulled", () =>
      Effect.gen(function* () {
        const made: Array<number> = []
        const source = Stream.range(1, 100).pipe(
          Stream.rechunk(1),
          Stream.mapEffect((n) => Effect.sync(() => (made.push(n), chunk(String(n)))))
        )
        const reader = iterator(streamed(source))
        yield* Effect.yieldNow
        assert.deepStrictEqual(made, [])
        yield* Effect.promise(() => reader.next())
        yield* Effect.yieldNow
        assert.deepStrictEqual(made, [1])
        yield* Effect.promise(() => reader.next())
        yield* Effect.yieldNow
        assert.deepStrictEqual(made, [1, 2])
      })
    )

    it.live("cancel while the source is slow: interrupted at once, finalizers run, the pull is rejected", () =>
      Effect.gen(function* () {
        const pulled = yield* Deferred.make<void>()
        const finalized = yield* Deferred.make<void>()
        const body = streamed(
          Stream.fromEffect(Effect.andThen(Deferred.succeed(pulled, undefined), Effect.never)).pipe(
            Stream.ensuring(Deferred.succeed(finalized, undefined))
          )
        )
        const reader = iterator(body)
        const pending = reader.next()
        yield* Deferred.await(pulled)
        body.cancel()
        body.cancel()
        assert.strictEqual((yield* rejection(pending)).message, "the request body was cancelled")
        yield* Deferred.await(finalized)
        yield* rejection(reader.next())
      })
    )

    it.live("cancel between pulls: what was not read is not sent", () =>
      Effect.gen(function* () {
        const finalized = yield* Deferred.make<void>()
        const body = streamed(
          Stream.make(chunk("a"), chunk("b")).pipe(Stream.ensuring(Deferred.succeed(finalized, undefined)))
        )
        const reader = iterator(body)
        yield* Effect.promise(() => reader.next())
        body.cancel()
        yield* rejection(reader.next())
        yield* Deferred.await(finalized)
      })
    )

    it.live("cancel before the first pull: the stream never runs", () =>
      Effect.gen(function* () {
        const body = streamed(Stream.fromEffect(Effect.die(new Error("ran"))))
        body.cancel()
        assert.strictEqual((yield* rejection(iterator(body).next())).message, "the request body was cancelled")
      })
    )

    it.live("a stream that cancels its own body ends, too", () =>
      Effect.gen(function* () {
        const body: Encoded = streamed(Stream.fromEffect(Effect.sync(() => (body.cancel(), chunk("late")))))
        yield* rejection(iterator(body).next())
      })
    )

    it.live("breaking out of `for await` cancels", () =>
      Effect.gen(function* () {
        const finalized = yield* Deferred.make<void>()
        const body = streamed(
          Stream.forever(Stream.make(chunk("a"))).pipe(Stream.ensuring(Deferred.succeed(finalized, undefined)))
        )
        yield* Effect.promise(async () => {
          for await (const _ of { [Symbol.asyncIterator]: () => iterator(body) }) break
        })
        yield* Deferred.await(finalized)
      })
    )

    it.live("an error rejects the pull; the original is its cause", () =>
      Effect.gen(function* () {
        const cause = new Error("disk")
        const reader = iterator(streamed(Stream.make(chunk("a")).pipe(Stream.concat(Stream.fail(cause)))))
        yield* Effect.promise(() => reader.next())
        const error = yield* rejection(reader.next())
        assert.strictEqual(error.message, "the stream of the request body failed: disk")
        assert.strictEqual(error.cause, cause)
        const defect = yield* rejection(iterator(streamed(Stream.die("odd"))).next())
        assert.include(defect.message, "odd")
        yield* rejection(iterator(streamed(Stream.fail(Object.create(null)))).next())
      })
    )

    it.live("two pulls at once are refused; services reach the stream", () =>
      Effect.gen(function* () {
        class Name extends Context.Service<Name, string>()("test/Name") {}
        const queue = yield* Queue.unbounded<Uint8Array>()
        const reader = iterator(streamed(Stream.fromQueue(queue)))
        const first = reader.next()
        assert.include((yield* rejection(reader.next())).message, "read twice")
        yield* Queue.offer(queue, chunk("a"))
        assert.strictEqual(Buffer.from((yield* Effect.promise(() => first)).value).toString(), "a")
        const context: Context.Context<never> = Context.make(Name, "n")
        const named = Stream.fromEffect(
          Effect.map(Effect.context<never>(), (context) => chunk(Context.getOrUndefined(context, Name) ?? "none"))
        )
        const body = encode(HttpBody.stream(named), context)
        if (body instanceof RequestBodyError) return assert.fail(body.message)
        assert.strictEqual(yield* text(body), "n")
      })
    )
  })
})
