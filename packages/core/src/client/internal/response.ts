/**
 * A response of the pool, as every Effect library expects it.
 *
 * Nothing is parsed before it is asked for. A body that is complete when the fiber wakes (most are) is read without a
 * wait. An interrupted reader aborts the exchange, so its slot is free at once.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Cookies from "effect/http/Cookies"
import * as Headers from "effect/http/Headers"
import * as HttpClientError from "effect/http/HttpClientError"
import type { HttpClientRequest } from "effect/http/HttpClientRequest"
import * as HttpClientResponse from "effect/http/HttpClientResponse"
import * as HttpIncomingMessage from "effect/http/HttpIncomingMessage"
import * as UrlParams from "effect/http/UrlParams"
import * as Inspectable from "effect/Inspectable"
import * as Option from "effect/Option"
import { pipeArguments } from "effect/Pipeable"
import type * as Schema from "effect/Schema"
import type { Socket } from "effect/socket/Socket"
import * as Stream from "effect/Stream"
import type { Decompress, DecompressFailure, RawHeaders } from "../Connector.ts"
import { isPoolError, type PoolError, type RequestInfo, toHttpClientError } from "../../model/PoolError.ts"
import { Raw } from "../../model/internal/rawHeaders.ts"
import { Whole } from "../../model/internal/wholeBody.ts"
import type { Body } from "./body.ts"

type ReadError = HttpClientError.HttpClientError

/** What a response needs of the exchange that it came by. */
export interface Answer {
  readonly request: HttpClientRequest
  readonly status: number
  readonly url: string
  readonly rawHeaders: RawHeaders
  readonly info: RequestInfo
  readonly decompress: Decompressing
  /** Nobody wants the rest of the body. */
  readonly abort: () => void
  readonly decodeError: (reason: string, cause: unknown) => PoolError
}

/** What undoes certain codings; `undefined` when the pool, or the platform, does not do that. */
type Decompressing = (codings: ReadonlyArray<string>) => ReturnType<Decompress>

export class Response extends Inspectable.Class implements HttpClientResponse.HttpClientResponse {
  get [HttpClientResponse.TypeId](): typeof HttpClientResponse.TypeId {
    return HttpClientResponse.TypeId
  }
  get [HttpIncomingMessage.TypeId](): typeof HttpIncomingMessage.TypeId {
    return HttpIncomingMessage.TypeId
  }
  readonly #answer: Answer
  readonly #body: Body
  #headers: Headers.Headers | undefined = undefined
  /** Kept, so that a compressed body can be read twice like any other. */
  #decompressed: Uint8Array | undefined = undefined

  constructor(answer: Answer, body: Body) {
    super()
    this.#answer = answer
    this.#body = body
  }

  get request(): HttpClientRequest {
    return this.#answer.request
  }

  get status(): number {
    return this.#answer.status
  }

  get url(): string {
    return this.#answer.url
  }

  get [Raw](): RawHeaders {
    return this.#answer.rawHeaders
  }

  get [Whole](): Uint8Array | undefined {
    const body = this.#body
    return body.complete && !this.#isEncoded ? body.bytes() : undefined
  }

  get headers(): Headers.Headers {
    return (this.#headers ??= parseHeaders(this.#answer, this.#decoder !== undefined))
  }

  get cookies(): Cookies.Cookies {
    const header = this.#answer.rawHeaders["set-cookie"]
    return header === undefined ? Cookies.empty : Cookies.fromSetCookie(header)
  }

  get remoteAddress(): Option.Option<string> {
    return Option.none()
  }

  get stream(): Stream.Stream<Uint8Array, ReadError> {
    return Stream.mapError(this.#decoded, (error) => this.#error(error))
  }

  get text(): Effect.Effect<string, ReadError> {
    const body = this.#body
    // Most bodies are here already.
    if (body.complete && this.#answer.rawHeaders["content-encoding"] === undefined) {
      // Asked again when it runs: a stream may have taken it since.
      return Effect.suspend(() => (body.complete ? Exit.succeed(decodeText(body.bytes())) : this.text))
    }
    return Effect.map(this.#bytes, decodeText)
  }

  get json(): Effect.Effect<Schema.Json, ReadError> {
    return Effect.flatMap(this.#bytes, (bytes) => {
      const text = decodeText(bytes)
      if (text === "") return Effect.succeed(null)
      try {
        const json: Schema.Json = JSON.parse(text)
        return Effect.succeed(json)
      } catch {
        // The engine's error quotes the text, which may hold secrets.
        const what = `it is not JSON but ${this.headers["content-type"] ?? "of no type"}, ${bytes.length} bytes`
        return Effect.fail(this.#error(this.#answer.decodeError(what, undefined)))
      }
    })
  }

  get arrayBuffer(): Effect.Effect<ArrayBuffer, ReadError> {
    const body = this.#body
    return this.#isEncoded
      ? Effect.map(this.#bytes, (bytes) => new Uint8Array(bytes).buffer)
      : Effect.map(this.#whole, () => body.copy().buffer)
  }

  get urlParamsBody(): Effect.Effect<UrlParams.UrlParams, ReadError> {
    // A leading question mark is data; URLSearchParams would drop it.
    return Effect.map(this.#bytes, (bytes) =>
      UrlParams.fromInput(new URLSearchParams(decodeText(bytes).replace(/^\?/, "%3F")))
    )
  }

  get formData(): Effect.Effect<FormData, ReadError> {
    return Effect.flatMap(this.arrayBuffer, (buffer) =>
      Effect.tryPromise({
        try: () =>
          new globalThis.Response(buffer, {
            headers: { "content-type": this.headers["content-type"] ?? "" }
          }).formData(),
        catch: (cause) => this.#error(this.#answer.decodeError("it is not form data", cause))
      })
    )
  }

  get upgrade(): Effect.Effect<Socket, ReadError> {
    return Effect.suspend(() =>
      Effect.fail(
        new HttpClientError.HttpClientError({
          reason: new HttpClientError.StatusCodeError({
            request: this.request,
            response: this,
            description: "a pool's connection is shared and cannot be handed over"
          })
        })
      )
    )
  }

  pipe() {
    return pipeArguments(this, arguments)
  }

  toJSON(): unknown {
    return HttpIncomingMessage.inspect(this, {
      _id: "HttpClientResponse",
      request: this.#answer.info,
      status: this.status
    })
  }

  // ------------------------------------------------------------------ private

  /** What undoes the response's `content-encoding`; none when there is nothing to undo. */
  get #decoder(): ReturnType<Decompress> {
    const encoding = this.#answer.rawHeaders["content-encoding"]
    // A part of a compressed body cannot be decoded alone.
    if (encoding === undefined || this.status === 206) return undefined
    // A caller that asked for a coding itself wants the body as it is.
    if ("accept-encoding" in this.request.headers) return undefined
    const codings = String(encoding)
      .toLowerCase()
      .split(",")
      .map((coding) => coding.trim())
      .filter((coding) => coding !== "" && coding !== "identity")
    return codings.length === 0 ? undefined : this.#answer.decompress(codings)
  }

  get #decoded(): Stream.Stream<Uint8Array, PoolError | DecompressFailure> {
    const raw = rawStream(this.#answer, this.#body)
    const decoder = this.#decoder
    return decoder === undefined ? raw : decoder(raw)
  }

  get #bytes(): Effect.Effect<Uint8Array, ReadError> {
    if (this.#isEncoded) {
      // All of it first, so that several may read it, and as a stream too.
      return Effect.flatMap(this.#whole, () => {
        if (this.#decompressed !== undefined) return Effect.succeed(this.#decompressed)
        this.#body.bytes()
        return Effect.mapBoth(collectStream(this.#decoded), {
          onSuccess: (bytes) => (this.#decompressed = bytes),
          onFailure: (error) => this.#error(error)
        })
      })
    }
    const body = this.#body
    return Effect.map(this.#whole, () => body.bytes())
  }

  get #isEncoded(): boolean {
    return this.#answer.rawHeaders["content-encoding"] !== undefined && this.#decoder !== undefined
  }

  /** Completes when the body has, all of it. */
  get #whole(): Effect.Effect<void, ReadError> {
    const body = this.#body
    return Effect.suspend(() =>
      body.complete ? Effect.void : Effect.mapError(collect(this.#answer, body), (error) => this.#error(error))
    )
  }

  #error(error: PoolError | DecompressFailure): ReadError {
    const poolError = isPoolError(error) ? error : this.#answer.decodeError(error.reason, error.cause)
    return toHttpClientError(poolError, this.request, this)
  }
}

/** Waits for the end of the body and keeps all of it. */
const collect = (answer: Answer, body: Body): Effect.Effect<void, PoolError> =>
  Effect.callback((resume) => {
    body.collect()
    if (body.mode === "streaming") {
      resume(Effect.fail(answer.decodeError("its body is being read as a stream", undefined)))
      return
    }
    let undo = () => {}
    const look = () => {
      if (body.error !== undefined) resume(Exit.fail(body.error))
      else if (body.ended) resume(Effect.void)
      else undo = body.onChange(look)
    }
    look()
    return Effect.sync(() => {
      undo()
      // Another reader may still want it.
      if (!body.hasReader) answer.abort()
    })
  })

/** Chunk after chunk; the connection pauses while nobody takes them. Ends the exchange when left early. */
const rawStream = (answer: Answer, body: Body): Stream.Stream<Uint8Array, PoolError> => {
  const pull: Effect.Effect<readonly [Uint8Array, ...Array<Uint8Array>], PoolError | Cause.Done<void>> =
    Effect.callback((resume) => {
      let undo = () => {}
      const look = () => {
        const [first, ...rest] = body.take()
        if (first !== undefined) resume(Exit.succeed([first, ...rest]))
        else if (body.error !== undefined) resume(Exit.fail(body.error))
        else if (body.ended) resume(Cause.done())
        else undo = body.onChange(look)
      }
      look()
      return Effect.sync(() => undo())
    })
  return Stream.suspend(() => {
    // What was collected before can be streamed again; what was streamed is gone.
    if (body.mode === "collecting") return Stream.fromEffect(Effect.map(collect(answer, body), () => body.bytes()))
    if (body.mode === "streaming") {
      return Stream.fail(answer.decodeError("its body has been read as a stream already", undefined))
    }
    body.stream()
    return Stream.ensuring(
      Stream.fromPull(Effect.succeed(pull)),
      Effect.sync(() => answer.abort())
    )
  })
}

const collectStream = <E>(stream: Stream.Stream<Uint8Array, E>): Effect.Effect<Uint8Array, E> =>
  Effect.map(Stream.runCollect(stream), (chunks) => {
    const whole = new Uint8Array(chunks.reduce((sum, chunk) => sum + chunk.length, 0))
    let offset = 0
    for (const chunk of chunks) {
      whole.set(chunk, offset)
      offset += chunk.length
    }
    return whole
  })

const textDecoder = new TextDecoder()

/** Where there is a Buffer (Node), it decodes short texts in a third of the time. */
const buffer = (
  globalThis as {
    readonly Buffer?: {
      readonly from: (buffer: ArrayBufferLike, offset: number, length: number) => { readonly utf8Slice?: () => string }
    }
  }
).Buffer

/** Decodes UTF-8 and drops a byte order mark, as the WHATWG decoder does. */
const decodeText = (bytes: Uint8Array): string => {
  const text = buffer?.from(bytes.buffer, bytes.byteOffset, bytes.length).utf8Slice?.()
  if (text === undefined) return textDecoder.decode(bytes)
  return text.charCodeAt(0) === 0xfeff ? text.slice(1) : text
}

const parseHeaders = (answer: Answer, decoded: boolean): Headers.Headers => {
  const headers: Record<string, string> = {}
  const raw = answer.rawHeaders
  for (const name in raw) {
    // What they say is true of the body on the wire, not of the one that is handed out.
    if (decoded && (name === "content-encoding" || name === "content-length")) continue
    const value = raw[name]
    if (value !== undefined) headers[name.toLowerCase()] = typeof value === "string" ? value : value.join(", ")
  }
  return Headers.fromRecordUnsafe(headers)
}
