/**
 * Decodes compressed bodies with node:zlib, piece by piece.
 *
 * One pull does one of two things: it takes what the decoder has ready, or, when the decoder has digested all it was
 * given, it takes one more chunk from the source. So what the server has flushed comes out at once, nothing runs ahead
 * of the reader, and a small chunk that expands enormously is inflated only as far as it is read.
 *
 * @since 0.1.0
 */
import type { Decompress, DecompressFailure } from "@millrace/core/client/Connector"
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Pull from "effect/Pull"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { Transform } from "node:stream"
import * as Zlib from "node:zlib"

/** Nobody applies more; someone who does wants to hide a bomb in a bomb (undici stops at five, too). */
const maxCodings = 5

/** @internal */
export const decompress: Decompress = (encodings, limit) => {
  const makers: Array<(head: Uint8Array) => Transform> = []
  for (const encoding of encodings) {
    const coding = encoding.trim().toLowerCase()
    if (coding === "" || coding === "identity") continue
    const make = decoders.get(coding)
    if (make === undefined) return undefined
    makers.push(make)
  }
  // The header lists the codings in the order in which they were applied.
  makers.reverse()
  return <E>(source: Stream.Stream<Uint8Array, E>): Stream.Stream<Uint8Array, E | DecompressFailure> => {
    if (makers.length > maxCodings) return Stream.fail(failure(`more than ${maxCodings} content codings`))
    let stream: Stream.Stream<Uint8Array, E | DecompressFailure> = source
    for (const make of makers) stream = decode(stream, make, limit)
    return stream
  }
}

const failure = (reason: string, cause?: unknown): DecompressFailure => ({ _tag: "DecompressFailure", reason, cause })

/** What the first two bytes of a zlib stream look like (RFC 1950, section 2.2). */
const isZlib = (head: Uint8Array): boolean => {
  const [cmf = 0, flg = 0] = head
  return (cmf & 0x0f) === 8 && (cmf * 256 + flg) % 31 === 0
}

const gunzip = (): Transform => Zlib.createGunzip()

const decoders: ReadonlyMap<string, (head: Uint8Array) => Transform> = new Map([
  ["gzip", gunzip],
  ["x-gzip", gunzip],
  // HTTP's `deflate` is the zlib format (RFC 9110, section 8.4.1.2); some servers send raw deflate instead.
  ["deflate", (head: Uint8Array): Transform => (isZlib(head) ? Zlib.createInflate() : Zlib.createInflateRaw())],
  ["br", (): Transform => Zlib.createBrotliDecompress()],
  ["zstd", (): Transform => Zlib.createZstdDecompress()]
])

const decode = <E>(
  source: Stream.Stream<Uint8Array, E>,
  make: (head: Uint8Array) => Transform,
  limit: number
): Stream.Stream<Uint8Array, E | DecompressFailure> =>
  Stream.transformPull(source, (pull, scope) => Effect.succeed(decoding(pull, scope, make, limit)))

type BytesPull<E> = Pull.Pull<NonEmptyReadonlyArray<Uint8Array>, E, void>

const decoding = <E>(
  pull: BytesPull<E>,
  scope: Scope.Scope,
  make: (head: Uint8Array) => Transform,
  limit: number
): BytesPull<E | DecompressFailure> => {
  let decoder: Decoder | undefined
  let head: Uint8Array = new Uint8Array(0)
  let total = 0

  const give = (chunk: Uint8Array): Effect.Effect<void> => {
    if (decoder !== undefined) {
      decoder.write(chunk)
      return Effect.void
    }
    head = head.length === 0 ? chunk : Buffer.concat([head, chunk])
    // Two bytes tell the two kinds of `deflate` apart.
    return head.length < 2 ? Effect.void : start
  }

  const start: Effect.Effect<void> = Effect.suspend(() => {
    const created = (decoder = new Decoder(make(head)))
    created.write(head)
    return Scope.addFinalizer(
      scope,
      Effect.sync(() => created.destroy())
    )
  })

  const finish: Effect.Effect<void, Cause.Done<void>> = Effect.suspend(() => {
    // A response may say `content-encoding: gzip` and have no body at all.
    if (decoder === undefined && head.length === 0) return Cause.done()
    const ending = Effect.sync(() => decoder?.end())
    return decoder === undefined ? Effect.andThen(start, ending) : ending
  })

  const feed: Effect.Effect<void, E | Cause.Done<void>> = Pull.matchEffect(pull, {
    onSuccess: (chunks) => Effect.forEach(chunks, give, { discard: true }),
    onFailure: (cause) => Effect.failCause(cause),
    onDone: () => finish
  })

  const next: BytesPull<E | DecompressFailure> = Effect.suspend(() => {
    const state = decoder === undefined ? "hungry" : decoder.look()
    if (state instanceof Uint8Array) {
      total += state.length
      return total > limit
        ? Effect.fail(failure(`the body expands to more than ${limit} bytes`))
        : Effect.succeed<NonEmptyReadonlyArray<Uint8Array>>([state])
    }
    switch (state) {
      case "hungry":
        return Effect.andThen(feed, next)
      case "busy":
        return Effect.andThen(decoder === undefined ? Effect.void : decoder.change, next)
      case "done":
        return Cause.done()
      case "ended":
        // What follows the compressed data is read, so that the connection stays clean, and thrown away.
        return Effect.andThen(pull, next)
      default:
        return Effect.fail(failure(explain(state), state))
    }
  })

  return next
}

const explain = (error: Error): string => {
  const code = "code" in error && typeof error.code === "string" ? error.code : ""
  if (code === "Z_BUF_ERROR") return "the compressed body ends too early"
  return `the compressed body is damaged (${error.message})`
}

/** A zlib stream, turned from events into a state to look at and an effect that waits for a change of it. */
class Decoder {
  readonly #stream: Transform
  #writes = 0
  #ending = false
  #ended = false
  #error: Error | undefined
  #unseen = false
  #wake: (() => void) | undefined

  constructor(stream: Transform) {
    this.#stream = stream
    stream.on("readable", this.#changed)
    stream.on("end", () => {
      this.#ended = true
      this.#changed()
    })
    stream.on("error", (error) => {
      this.#error = error
      this.#changed()
    })
  }

  readonly #changed = (): void => {
    this.#unseen = true
    const wake = this.#wake
    this.#wake = undefined
    wake?.()
  }

  write(chunk: Uint8Array): void {
    this.#writes++
    this.#stream.write(chunk, () => {
      this.#writes--
      this.#changed()
    })
  }

  end(): void {
    this.#ending = true
    this.#stream.end()
  }

  destroy(): void {
    this.#stream.destroy()
  }

  /** Bytes; or the error; or: can take more, is at work, has reached the end of its data, or of the whole body. */
  look(): Uint8Array | Error | "hungry" | "busy" | "ended" | "done" {
    this.#unseen = false
    const bytes: unknown = this.#stream.read()
    if (bytes instanceof Uint8Array && bytes.length > 0) return bytes
    if (this.#error !== undefined) return this.#error
    if (this.#ended) return this.#ending ? "done" : "ended"
    return this.#writes === 0 && !this.#ending ? "hungry" : "busy"
  }

  /** Waits until something has happened since the last `look`. */
  readonly change: Effect.Effect<void> = Effect.callback<void>((resume) => {
    if (this.#unseen) return resume(Effect.void)
    this.#wake = () => resume(Effect.void)
    return Effect.sync(() => {
      this.#wake = undefined
    })
  })
}
