/** What reached a double: one request, read completely. */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Headers from "effect/http/Headers"
import type { HttpBody } from "effect/http/HttpBody"
import type * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { type Exchange, type Target, TransportError } from "../../client/Connector.ts"
import { type RequestInfo, requestInfo } from "../../model/PoolError.ts"

export class SentRequest {
  readonly method: string
  readonly origin: string
  /** With the path of `baseUrl`, without the query. */
  readonly path: string
  /** Repeated parameters as arrays. */
  readonly query: Readonly<Record<string, string | ReadonlyArray<string>>>
  readonly headers: Headers.Headers
  /** The whole body. Form data is seen as JSON: its fields by name, a file as its name, type and size. */
  readonly body: Uint8Array
  /** When it came: milliseconds of the `Clock`, so those of the `TestClock` in a test. */
  readonly at: number
  /** Number of the slot that it came by. */
  readonly slot: number
  /** What the names in the pattern of its route stand for. */
  params: Readonly<Record<string, string>> = {}
  readonly #search: string

  constructor(exchange: Exchange, target: Target, body: Uint8Array, at: number) {
    const mark = exchange.path.indexOf("?")
    this.method = exchange.method
    this.origin = target.origin
    this.path = mark === -1 ? exchange.path : exchange.path.slice(0, mark)
    this.#search = mark === -1 ? "" : exchange.path.slice(mark)
    this.query = queryOf(new URLSearchParams(this.#search))
    this.headers = headersOf(exchange.headers)
    this.body = body
    this.at = at
    this.slot = target.slot
  }

  get url(): string {
    return this.origin + this.path + this.#search
  }

  get text(): string {
    return utf8.decode(this.body)
  }

  /** `undefined` when the body is not JSON. */
  get json(): Schema.Json | undefined {
    return parseJson(this.text)
  }

  /** As an error may show it: without secrets. */
  get info(): RequestInfo {
    return requestInfo(this.method, this.url)
  }
}

const utf8 = new TextDecoder()
const encoder = new TextEncoder()

export const parseJson = (text: string): Schema.Json | undefined => {
  try {
    const json: Schema.Json = JSON.parse(text)
    return json
  } catch {
    return undefined
  }
}

const queryOf = (params: URLSearchParams): Record<string, string | ReadonlyArray<string>> => {
  const names = new Set(params.keys())
  return Object.fromEntries(
    Array.from(names, (name) => {
      const values = params.getAll(name)
      return [name, values.length === 1 ? (values[0] ?? "") : values]
    })
  )
}

const headersOf = (flat: ReadonlyArray<string>): Headers.Headers => {
  const headers: Record<string, string> = {}
  for (let i = 0; i < flat.length; i += 2) headers[(flat[i] ?? "").toLowerCase()] = flat[i + 1] ?? ""
  return Headers.fromRecordUnsafe(headers)
}

/** The request of an exchange, when all of it has come. */
export const receive = (exchange: Exchange, target: Target): Effect.Effect<SentRequest, TransportError> =>
  Effect.flatMap(Clock.currentTimeMillis, (at) =>
    Effect.map(bytesOf(exchange.body), (body) => new SentRequest(exchange, target, body, at))
  )

export const concat = (chunks: ReadonlyArray<Uint8Array>): Uint8Array => {
  const whole = new Uint8Array(chunks.reduce((sum, chunk) => sum + chunk.length, 0))
  let offset = 0
  for (const chunk of chunks) {
    whole.set(chunk, offset)
    offset += chunk.length
  }
  return whole
}

const unreadable = (cause: unknown): TransportError =>
  new TransportError({ failure: { _tag: "Rejected", reason: "its body stream failed", cause } })

/** Any body as bytes. Reads a stream to its end. */
const bytesOf = (body: HttpBody): Effect.Effect<Uint8Array, TransportError> => {
  if (body._tag === "Stream") {
    return Effect.mapBoth(Stream.runCollect(body.stream), { onFailure: unreadable, onSuccess: concat })
  }
  const now = bytesNow(body)
  if (now !== undefined) return Effect.succeed(now)
  return Effect.tryPromise({
    try: async () => {
      const raw = body._tag === "Raw" ? body.body : undefined
      const readable = raw instanceof Blob || raw instanceof ReadableStream ? raw : null
      return new Uint8Array(await new Response(readable).arrayBuffer())
    },
    catch: unreadable
  })
}

/** The bytes of a body that can be read beside its being sent. */
export const bytesNow = (body: HttpBody): Uint8Array | undefined => {
  switch (body._tag) {
    case "Empty":
      return new Uint8Array()
    case "Uint8Array":
      return body.body
    case "FormData":
      return encoder.encode(JSON.stringify(fieldsOf(body.formData)))
    case "Raw":
      return rawBytes(body.body)
    case "Stream":
      return undefined
  }
}

const rawBytes = (raw: unknown): Uint8Array | undefined => {
  if (typeof raw === "string") return encoder.encode(raw)
  if (raw instanceof Uint8Array) return raw
  if (raw instanceof ArrayBuffer) return new Uint8Array(raw)
  if (raw instanceof URLSearchParams) return encoder.encode(raw.toString())
  return raw instanceof Blob || raw instanceof ReadableStream ? undefined : encoder.encode(JSON.stringify(raw) ?? "")
}

/** The boundary of an encoded form is random; its fields are not. */
const fieldsOf = (form: FormData): Record<string, unknown> => {
  const names = new Set(form.keys())
  return Object.fromEntries(
    Array.from(names, (name) => {
      const values = form
        .getAll(name)
        .map((value) => (typeof value === "string" ? value : { file: value.name, type: value.type, size: value.size }))
      return [name, values.length === 1 ? values[0] : values]
    })
  )
}
