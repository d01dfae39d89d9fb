import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, Queue, Stream } from "effect"
import type { DecompressFailure } from "@millrace/core/client/Connector"
import * as Crypto from "node:crypto"
import * as Module from "node:module"
import type { Transform } from "node:stream"
import zlib, * as Zlib from "node:zlib"
import { afterEach, beforeEach, vi } from "vitest"
import { decompress } from "../../src/internal/decompress.ts"

const text = "The quick brown fox jumps over the lazy dog. ".repeat(50)
const bytes = Buffer.from(text)

const codings: ReadonlyArray<
  readonly [name: string, compress: (data: Uint8Array) => Buffer, stream: () => Transform, flush: number]
> = [
  ["gzip", Zlib.gzipSync, Zlib.createGzip, Zlib.constants.Z_SYNC_FLUSH],
  ["x-gzip", Zlib.gzipSync, Zlib.createGzip, Zlib.constants.Z_SYNC_FLUSH],
  ["deflate", Zlib.deflateSync, Zlib.createDeflate, Zlib.constants.Z_SYNC_FLUSH],
  ["deflate", Zlib.deflateRawSync, Zlib.createDeflateRaw, Zlib.constants.Z_SYNC_FLUSH],
  ["br", Zlib.brotliCompressSync, Zlib.createBrotliCompress, Zlib.constants.BROTLI_OPERATION_FLUSH],
  ["zstd", Zlib.zstdCompressSync, Zlib.createZstdCompress, Zlib.constants.ZSTD_e_flush]
]

const decoded = <E>(
  encodings: ReadonlyArray<string>,
  source: Stream.Stream<Uint8Array, E>,
  limit = Infinity
): Stream.Stream<Uint8Array, E | DecompressFailure> => {
  const decode = decompress(encodings, limit)
  return decode === undefined ? Stream.die(new Error(`unknown: ${encodings.join()}`)) : decode(source)
}

const collected = <E>(stream: Stream.Stream<Uint8Array, E>) =>
  Effect.map(Stream.runCollect(stream), (chunks) => Buffer.concat(chunks))

const pieces = (data: Uint8Array, size: number): Array<Uint8Array> => {
  const result: Array<Uint8Array> = []
  for (let i = 0; i < data.length; i += size) result.push(data.subarray(i, i + size))
  return result
}

/** Every decoder that was made, to see that none stays open. */
let made: Array<Transform> = []
/** What zlib has put out, read or not. */
let inflated = 0

beforeEach(() => {
  made = []
  inflated = 0
  const names = [
    "createGunzip",
    "createInflate",
    "createInflateRaw",
    "createBrotliDecompress",
    "createZstdDecompress"
  ] as const
  for (const name of names) {
    const make: () => Transform = zlib[name]
    vi.spyOn(zlib, name).mockImplementation((() => {
      const stream = make()
      made.push(stream)
      const push = stream.push.bind(stream)
      stream.push = (chunk: Uint8Array | null) => {
        inflated += chunk?.length ?? 0
        return push(chunk)
      }
      return stream
    }) as never)
  }
  Module.syncBuiltinESMExports()
})

afterEach(() => {
  vi.restoreAllMocks()
  Module.syncBuiltinESMExports()
})

const allClosed = () => made.length > 0 && made.every((stream) => stream.destroyed)

describe("decompress", () => {
  for (const [name, compress, createStream, flush] of codings) {
    describe(createStream === Zlib.createDeflateRaw ? "raw deflate" : name, () => {
      const compressed = compress(bytes)

      it.live("whole, and byte by byte", () =>
        Effect.gen(function* () {
          assert.deepStrictEqual(yield* collected(decoded([name], Stream.make(compressed))), bytes)
          assert.deepStrictEqual(yield* collected(decoded([name], Stream.fromIterable(pieces(compressed, 1)))), bytes)
          assert.isTrue(allClosed())
        })
      )

      it.live("large data that does not compress", () =>
        Effect.gen(function* () {
          const noise = Crypto.randomBytes(200_000)
          const source = Stream.fromIterable(pieces(compress(noise), 30_000))
          assert.isTrue(noise.equals(yield* collected(decoded([name], source))))
        })
      )

      it.live("cut short: a failure that says so", () =>
        Effect.gen(function* () {
          for (const end of [1, 2, compressed.length - 1]) {
            const error = yield* Effect.flip(collected(decoded([name], Stream.make(compressed.subarray(0, end)))))
            assert.deepStrictEqual(
              [error._tag, error.reason],
              ["DecompressFailure", "the compressed body ends too early"]
            )
          }
          assert.isTrue(allClosed())
        })
      )

      it.live("garbage: a failure that says so", () =>
        Effect.gen(function* () {
          const error = yield* Effect.flip(
            collected(decoded([name], Stream.make(Buffer.from("\xff\xfenot compressed", "latin1"))))
          )
          assert.strictEqual(error._tag, "DecompressFailure")
          assert.match(error.reason, /^the compressed body is damaged \(.+\)$/)
          assert.isTrue(allClosed())
        })
      )

      it.live("no body at all is an empty body", () =>
        Effect.gen(function* () {
          assert.strictEqual((yield* collected(decoded([name], Stream.empty))).length, 0)
          assert.strictEqual(made.length, 0)
        })
      )

      it.live("what the server flushed comes out before the stream goes on", () =>
        Effect.gen(function* () {
          const encoder = createStream()
          const flushed = Effect.fnUntraced(function* (event: string) {
            return yield* Effect.callback<Buffer>((resume) => {
              encoder.write(event)
              // Transform's type does not know the zlib method.
              ;(encoder as Zlib.Gzip).flush(flush, () => resume(Effect.sync((): Buffer => encoder.read())))
            })
          })
          const source = yield* Queue.unbounded<Uint8Array>()
          const events = yield* Queue.unbounded<string>()
          yield* decoded([name], Stream.fromQueue(source)).pipe(
            Stream.runForEach((chunk) => Queue.offer(events, Buffer.from(chunk).toString())),
            Effect.forkChild
          )
          for (const event of ["data: 1\n\n", "data: 2\n\n", "data: 3\n\n"]) {
            yield* Queue.offer(source, yield* flushed(event))
            assert.strictEqual(yield* Queue.take(events), event)
          }
        })
      )

      it.live("a bomb is inflated no further than the limit and one chunk, at the reader's pace", () =>
        Effect.gen(function* () {
          const bomb = compress(Buffer.alloc(5_000_000))
          let given = 0
          const error = yield* decoded([name], Stream.make(bomb), 100_000).pipe(
            Stream.runForEach((chunk) => Effect.sync(() => void (given += chunk.length))),
            Effect.flip
          )
          assert.strictEqual(error.reason, "the body expands to more than 100000 bytes")
          assert.isAtMost(given, 100_000)
          assert.isTrue(allClosed())
          assert.isAtMost(inflated, 200_000)
        })
      )

      it.live("interrupted while it waits for more: the decoder is closed", () =>
        Effect.gen(function* () {
          const waiting = yield* Deferred.make<void>()
          const source = Stream.make(compressed.subarray(0, 20)).pipe(
            Stream.concat(Stream.fromEffect(Effect.andThen(Deferred.succeed(waiting, undefined), Effect.never)))
          )
          const fiber = yield* Effect.forkChild(collected(decoded([name], source)))
          yield* Deferred.await(waiting)
          assert.isFalse(allClosed())
          yield* Fiber.interrupt(fiber)
          assert.isTrue(allClosed())
        })
      )
    })
  }

  it.live("several codings, in the order in which they were applied; names in any case; identity changes nothing", () =>
    Effect.gen(function* () {
      const twice = Zlib.brotliCompressSync(Zlib.gzipSync(bytes))
      assert.deepStrictEqual(yield* collected(decoded(["GZIP", " identity", "Br "], Stream.make(twice))), bytes)
      assert.deepStrictEqual(yield* collected(decoded([], Stream.make(bytes))), bytes)
      assert.deepStrictEqual(yield* collected(decoded(["identity"], Stream.make(bytes))), bytes)
      assert.isTrue(allClosed())
    })
  )

  it("an unknown coding: not for us", () => {
    assert.isUndefined(decompress(["gzip", "compress"], 1))
  })

  it.live("too many codings are refused", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(
        collected(
          decoded(
            Array.from({ length: 6 }, () => "gzip"),
            Stream.make(bytes)
          )
        )
      )
      assert.strictEqual(error.reason, "more than 5 content codings")
    })
  )

  it.live("the limit holds for the codings in between, too", () =>
    Effect.gen(function* () {
      const bomb = Zlib.gzipSync(Zlib.gzipSync(Buffer.alloc(10_000_000)))
      const error = yield* Effect.flip(collected(decoded(["gzip", "gzip"], Stream.make(bomb), 5_000)))
      assert.include(error.reason, "more than 5000 bytes")
      assert.isTrue(allClosed())
    })
  )

  it.live("exactly the limit is allowed", () =>
    Effect.gen(function* () {
      const all = yield* collected(decoded(["gzip"], Stream.make(Zlib.gzipSync(bytes)), bytes.length))
      assert.strictEqual(all.length, bytes.length)
    })
  )

  it.live("several gzip members are one body; what follows the data is read and dropped", () =>
    Effect.gen(function* () {
      const members = Buffer.concat([Zlib.gzipSync("a"), Zlib.gzipSync("b")])
      assert.strictEqual((yield* collected(decoded(["gzip"], Stream.make(members)))).toString(), "ab")
      let read = 0
      const trailing = Stream.make(
        Buffer.concat([Zlib.deflateSync("a"), Buffer.from("trailing")]),
        Buffer.from("more")
      ).pipe(
        Stream.rechunk(1),
        Stream.tap(() => Effect.sync(() => void read++))
      )
      assert.strictEqual((yield* collected(decoded(["deflate"], trailing))).toString(), "a")
      assert.strictEqual(read, 2)
      assert.isTrue(allClosed())
    })
  )

  it.live("an error of the source stays what it is", () =>
    Effect.gen(function* () {
      const source = Stream.make(Zlib.gzipSync(bytes).subarray(0, 30)).pipe(
        Stream.concat(Stream.fail("reset" as const))
      )
      assert.strictEqual(yield* Effect.flip(collected(decoded(["gzip"], source))), "reset")
      assert.isTrue(allClosed())
    })
  )

  it.live("a reader that stops early closes the decoder", () =>
    Effect.gen(function* () {
      yield* decoded(["gzip"], Stream.make(Zlib.gzipSync(Buffer.alloc(1_000_000)))).pipe(
        Stream.take(1),
        Stream.runDrain
      )
      assert.isTrue(allClosed())
    })
  )
})
