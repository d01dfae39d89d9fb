/**
 * Turns an Effect `HttpBody` into what a Node HTTP client can send.
 *
 * Text stays text and bytes stay bytes. All that has to be waited for (an Effect stream, a web stream, a blob) becomes
 * one `Upload`: an async iterable that starts nothing before its first pull, runs one chunk at a time, and can be
 * cancelled at any moment.
 *
 * @since 0.1.0
 */
import type * as Context from "effect/Context"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import type { HttpBody } from "effect/http/HttpBody"
import * as Stream from "effect/Stream"
import { Readable } from "node:stream"
import * as Undici from "undici"

/** @internal */
export interface Encoded {
  readonly body: string | Uint8Array | AsyncIterable<Uint8Array> | Undici.FormData | Readable | null
  /** For a request that names no content type itself. Left out for a form: its encoder chooses the boundary. */
  readonly contentType?: string | undefined
  readonly contentLength?: number | undefined
  /**
   * Stops what produces the body, at once, even while it waits for its source; finalizers run. A pull that waits is
   * rejected, never ended: a body cut short must not look complete. Harmless when there is nothing to stop.
   */
  readonly cancel: () => void
}

/**
 * The request's body cannot be sent, or stopped with an error: then `cause` is what its stream failed with.
 *
 * @internal
 */
export class RequestBodyError extends Error {
  override readonly name = "RequestBodyError"
}

/**
 * What to send for a body, or why it cannot be sent. Runs nothing, and never throws: a body may be an object of another
 * realm, or one that only pretends to be a form.
 *
 * @internal
 */
export const encode = (body: HttpBody, services: Context.Context<never>): Encoded | RequestBodyError => {
  try {
    return encoded(body, services)
  } catch (cause) {
    return new RequestBodyError(`the request body cannot be read: ${asError(cause).message}`, { cause })
  }
}

/**
 * Whatever was thrown, as an error.
 *
 * @internal
 */
export const asError = (thrown: unknown): Error => {
  try {
    return thrown instanceof Error ? thrown : new Error(String(thrown), { cause: thrown })
  } catch {
    return new Error("what was thrown is no error, and has no text")
  }
}

const encoded = (body: HttpBody, services: Context.Context<never>): Encoded | RequestBodyError => {
  switch (body._tag) {
    case "Empty":
      return plain(null)
    case "Uint8Array":
      // Whoever sends it encodes text on the way; `body.body` would make a second copy.
      return plain(body.text ?? body.body, body.contentType, body.contentLength)
    case "FormData":
      return plain(undiciForm(body.formData))
    case "Stream":
      // An Effect stream cannot be of no type; one of an empty type, as that of a proxied request, is.
      return upload(body.stream, services, body.contentType === "" ? undefined : body.contentType, body.contentLength)
    case "Raw":
      return raw(body.body, services, body.contentType, body.contentLength)
  }
}

const nothing = (): void => {}

const plain = (
  body: string | Uint8Array | Undici.FormData | null,
  contentType?: string,
  contentLength?: number
): Encoded => ({ body, contentType, contentLength, cancel: nothing })

const raw = (
  body: unknown,
  services: Context.Context<never>,
  contentType: string | undefined,
  contentLength: number | undefined
): Encoded | RequestBodyError => {
  if (body === null || body === undefined) return plain(null, contentType)
  if (typeof body === "string") return plain(body, contentType, Buffer.byteLength(body))
  if (body instanceof Uint8Array) return plain(body, contentType, body.byteLength)
  if (ArrayBuffer.isView(body)) {
    return plain(new Uint8Array(body.buffer, body.byteOffset, body.byteLength), contentType, body.byteLength)
  }
  if (body instanceof ArrayBuffer) return plain(new Uint8Array(body), contentType, body.byteLength)
  if (body instanceof URLSearchParams) {
    const text = body.toString()
    return plain(text, contentType ?? "application/x-www-form-urlencoded;charset=UTF-8", Buffer.byteLength(text))
  }
  if (body instanceof FormData) return plain(undiciForm(body), contentType)
  if (body instanceof Undici.FormData) return plain(body, contentType)
  if (body instanceof Blob) {
    const type = contentType ?? (body.type === "" ? undefined : body.type)
    return upload(
      fromWeb(() => body.stream()),
      services,
      type,
      body.size
    )
  }
  if (body instanceof ReadableStream) {
    if (body.locked) return new RequestBodyError("the request body is a ReadableStream that is read elsewhere")
    return upload(
      fromWeb(() => body),
      services,
      contentType,
      contentLength
    )
  }
  if (body instanceof Readable) {
    if (body.destroyed) return new RequestBodyError("the request body is a Readable that has ended or was destroyed")
    return {
      body,
      contentType,
      contentLength,
      cancel: () => {
        // Nobody may be listening any more for what a source says to being stopped.
        body.on("error", nothing)
        body.destroy()
      }
    }
  }
  return new RequestBodyError(
    `the request body is ${describe(body)}; use text, bytes, a Blob, FormData, URLSearchParams or a stream`
  )
}

const describe = (body: unknown): string =>
  typeof body === "object" && body !== null ? `an object (${body.constructor?.name ?? "no class"})` : `a ${typeof body}`

/** undici's dispatch takes no `FormData` but its own. */
const undiciForm = (form: FormData): Undici.FormData => {
  const copy = new Undici.FormData()
  for (const [name, value] of form.entries()) {
    if (typeof value === "string") copy.append(name, value)
    else copy.append(name, value, value.name)
  }
  return copy
}

const fromWeb = (evaluate: () => ReadableStream<unknown>): Stream.Stream<Uint8Array, unknown> =>
  Stream.fromReadableStream({ evaluate, onError: (error) => error }).pipe(
    Stream.mapEffect((chunk) => {
      if (chunk instanceof Uint8Array) return Effect.succeed(chunk)
      if (typeof chunk === "string") return Effect.succeed(Buffer.from(chunk))
      return Effect.fail(new RequestBodyError(`a chunk of the request body is ${describe(chunk)}, not bytes or text`))
    })
  )

const upload = (
  stream: Stream.Stream<Uint8Array, unknown>,
  services: Context.Context<never>,
  contentType: string | undefined,
  contentLength: number | undefined
): Encoded => {
  const body = new Upload(stream, services)
  return { body, contentType, contentLength, cancel: () => body.cancel() }
}

interface Reader {
  readonly resolve: (result: IteratorResult<Uint8Array>) => void
  readonly reject: (error: unknown) => void
}

/**
 * A stream as an async iterator that can be read once.
 *
 * One fiber runs the stream and stops at each piece until the reader wants the next; cancelling is interrupting that
 * fiber. States: `fresh` (nothing runs) → `open` (the fiber runs) → `closed` (`end` says how).
 */
class Upload implements AsyncIterableIterator<Uint8Array> {
  readonly #stream: Stream.Stream<Uint8Array, unknown>
  readonly #services: Context.Context<never>
  #state: "fresh" | "open" | "closed" = "fresh"
  #fiber: Fiber.Fiber<void, unknown> | undefined
  #end: RequestBodyError | undefined
  #chunks: ReadonlyArray<Uint8Array> = []
  #index = 0
  /** Set while the fiber waits for its chunks to be read. */
  #more: (() => void) | undefined
  /** Set while the reader waits for a chunk. */
  #reader: Reader | undefined

  constructor(stream: Stream.Stream<Uint8Array, unknown>, services: Context.Context<never>) {
    this.#stream = stream
    this.#services = services
  }

  [Symbol.asyncIterator](): this {
    return this
  }

  next(): Promise<IteratorResult<Uint8Array>> {
    const chunk = this.#chunks[this.#index]
    if (chunk !== undefined) {
      this.#index++
      return Promise.resolve({ done: false, value: chunk })
    }
    if (this.#state === "closed") return this.#ended()
    if (this.#reader !== undefined) return Promise.reject(new RequestBodyError("the request body is read twice"))
    return new Promise((resolve, reject) => {
      this.#reader = { resolve, reject }
      if (this.#state === "fresh") this.#start()
      else this.#advance()
    })
  }

  /** The reader has lost interest: `for await` calls it when its loop breaks. */
  return(): Promise<IteratorResult<Uint8Array>> {
    this.cancel()
    return Promise.resolve({ done: true, value: undefined })
  }

  cancel(): void {
    if (this.#state === "closed") return
    const fiber = this.#fiber
    this.#close(new RequestBodyError("the request body was cancelled"))
    fiber?.interruptUnsafe()
  }

  #start(): void {
    this.#state = "open"
    const run = Stream.runForEachArray(this.#stream, (chunks) =>
      Effect.callback<void>((resume) => {
        this.#more = () => resume(Effect.void)
        this.#chunks = chunks
        this.#index = 0
        this.#deliver()
      })
    )
    const fiber = Effect.runForkWith(this.#services)(run)
    if (this.#closed()) return fiber.interruptUnsafe()
    this.#fiber = fiber
    fiber.addObserver((exit) => this.#close(Exit.isSuccess(exit) ? undefined : failed(exit.cause)))
  }

  /** A method, so that the compiler does not take the state of before a call for the state after it. */
  #closed(): boolean {
    return this.#state === "closed"
  }

  #deliver(): void {
    const reader = this.#reader
    const chunk = this.#chunks[this.#index]
    if (reader === undefined || chunk === undefined) return
    this.#index++
    this.#reader = undefined
    reader.resolve({ done: false, value: chunk })
  }

  #advance(): void {
    const more = this.#more
    this.#more = undefined
    more?.()
  }

  #close(end: RequestBodyError | undefined): void {
    if (this.#state === "closed") return
    this.#state = "closed"
    this.#end = end
    this.#fiber = undefined
    this.#more = undefined
    this.#chunks = []
    const reader = this.#reader
    this.#reader = undefined
    if (reader !== undefined) this.#ended().then(reader.resolve, reader.reject)
  }

  #ended(): Promise<IteratorResult<Uint8Array>> {
    return this.#end === undefined ? Promise.resolve({ done: true, value: undefined }) : Promise.reject(this.#end)
  }
}

const failed = (cause: Cause.Cause<unknown>): RequestBodyError => {
  const error = Cause.squash(cause)
  if (error instanceof RequestBodyError) return error
  return new RequestBodyError(`the stream of the request body failed: ${asError(error).message}`, { cause: error })
}
