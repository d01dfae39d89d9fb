/**
 * A connector on the platform's `fetch`: works wherever `fetch` does, and promises the least.
 *
 * **Gotchas**
 *
 * `fetch` keeps its connections to itself. So this connector cannot give each slot its own, cannot count, retire or age
 * them, and reports neither `connected` nor `disconnected`: `size` slots limit how many requests run at once, not over
 * how many connections. It ignores all options of a connection (`dialTimeout`, `tlsTimeout`, `idleConnectionTimeout`,
 * `maxHeaderSize`, `tls`, `socketPath`, `addresses`, `proxy`), does not show interim responses, and cannot see when a
 * request's body has left. Compressed bodies arrive decoded, without the bound of `maxDecompressedSize`. It is no
 * substitute for `UndiciConnector` behind a balancer that works by connection.
 *
 * @since 0.1.0
 */
import {
  Connector,
  type Control,
  type Exchange,
  type Failure,
  type RawHeaders,
  type Target,
  type Transport
} from "@millrace/core/client/Connector"
import type { ConnectPhase } from "@millrace/core/model/PoolError"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { asError, encode, RequestBodyError } from "./internal/body.ts"
import { withoutBytes } from "./internal/parserError.ts"

/**
 * Provides the connector. It uses the `globalThis.fetch` of the moment of each request.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<Connector> = Layer.sync(Connector, () => ({
  open: (target) => new FetchTransport(target)
}))

const noop = (): void => {}

const closedByOwner = (): Error => new Error("the connection was closed by its owner")

class FetchTransport implements Transport {
  readonly #origin: string
  #running: Running | undefined = undefined
  #closed = false

  constructor(target: Target) {
    this.#origin = target.origin
  }

  send(exchange: Exchange): void {
    const running = new Running(exchange)
    if (this.#closed) return running.fail(closedByOwner())
    this.#running = running
    void running.run(this.#origin)
  }

  /** Nothing to take back: `send` starts the request at once. */
  cancel(): void {}

  /** Connections belong to `fetch`. */
  retire(): void {}

  readonly close: Effect.Effect<void> = Effect.suspend(() => {
    this.#closed = true
    this.#running?.fail(closedByOwner())
    return Effect.void
  })

  classify(error: Error): Failure {
    return classify(error)
  }
}

class Running {
  readonly #exchange: Exchange
  readonly #abort = new AbortController()
  #done = false
  #started = false
  #cancelBody = noop
  /** Set while paused: called to go on. */
  #resume: (() => void) | undefined = undefined
  #resumed: Promise<void> | undefined = undefined

  constructor(exchange: Exchange) {
    this.#exchange = exchange
  }

  readonly #control: Control = {
    abort: (reason) => {
      if (!this.#done) this.#finish(reason)
    },
    pause: () => {
      this.#resumed ??= new Promise((resolve) => (this.#resume = resolve))
    },
    resume: () => {
      this.#resume?.()
      this.#resume = undefined
      this.#resumed = undefined
    }
  }

  fail(error: Error): void {
    if (this.#done) return
    this.#finish(error)
    this.#exchange.onResponseError(this.#started ? this.#control : null, error)
  }

  /** Ends all that goes on; only what is called before or after it is reported. */
  #finish(reason?: Error): void {
    this.#done = true
    this.#cancelBody()
    this.#control.resume()
    if (reason !== undefined) this.#abort.abort(reason)
  }

  /** Never rejects. */
  async run(origin: string): Promise<void> {
    try {
      const init = this.#init()
      if (init instanceof RequestBodyError) return this.fail(init)
      this.#started = true
      this.#exchange.onRequestStart(this.#control)
      if (this.#done) return
      const { path } = this.#exchange
      const pending = globalThis.fetch(path.startsWith("/") ? origin + path : path, init)
      this.#exchange.onRequestSent()
      const response = await pending
      if (this.#done) return
      this.#exchange.onResponseStarted()
      this.#exchange.onResponseStart(this.#control, response.status, headersOf(response))
      if (response.body !== null) await this.#read(response.body)
      if (this.#done) return
      this.#finish()
      this.#exchange.onResponseEnd(this.#control)
    } catch (error) {
      this.fail(asError(error))
    }
  }

  async #read(body: ReadableStream<Uint8Array>): Promise<void> {
    const reader = body.getReader()
    while (true) {
      // One at a time: while nobody reads, `fetch` stops the socket.
      await this.#resumed
      if (this.#done) return
      const { done, value } = await reader.read()
      if (done || this.#done) return
      this.#exchange.onResponseData(this.#control, value)
    }
  }

  #init(): RequestInit | RequestBodyError {
    const { body, headers, method, services } = this.#exchange
    const init: RequestInit & { duplex?: "half" } = {
      method,
      headers: sendable(headers),
      redirect: "manual",
      signal: this.#abort.signal
    }
    const form = body._tag === "FormData" ? body.formData : body._tag === "Raw" ? body.body : undefined
    // `encode` would make it undici's. One of another realm fetch would send as the text "[object FormData]".
    if (form instanceof FormData) return { ...init, body: form }
    const encoded = encode(body, services)
    if (encoded instanceof RequestBodyError) return encoded
    this.#cancelBody = encoded.cancel
    const source = encoded.body
    if (source === null) return init
    if (
      encoded.contentType !== undefined &&
      !headers.some((_, i) => i % 2 === 0 && isNamed(headers[i], "content-type"))
    ) {
      init.headers = [...sendable(headers), ["content-type", encoded.contentType]]
    }
    if (typeof source === "string") return { ...init, body: source }
    if (source instanceof Uint8Array) return { ...init, body: new Uint8Array(source) }
    if (!(Symbol.asyncIterator in source)) return new RequestBodyError("fetch cannot send this form")
    return { ...init, body: ReadableStream.from(source), duplex: "half" }
  }
}

const isNamed = (name: string | undefined, expected: string): boolean => name?.toLowerCase() === expected

/** What `fetch` sets by itself and refuses, or miscounts, from others. */
const own = new Set(["connection", "content-length", "keep-alive", "transfer-encoding", "upgrade", "expect"])

const sendable = (headers: ReadonlyArray<string>): Array<[string, string]> => {
  const result: Array<[string, string]> = []
  for (let i = 0; i + 1 < headers.length; i += 2) {
    const name = headers[i] ?? ""
    const value = headers[i + 1] ?? ""
    if (own.has(name.toLowerCase())) continue
    // fetch, which trims it first, refuses it, too, but shows it.
    if (/[\0\r\n]/.test(value.trim())) throw new TypeError(`invalid ${name} header`)
    result.push([name, value])
  }
  return result
}

const headersOf = (response: Response): RawHeaders => {
  const headers: { [name: string]: string | Array<string> } = Object.create(null)
  for (const [name, value] of response.headers) {
    if (name !== "set-cookie") headers[name] = value
  }
  const cookies = response.headers.getSetCookie()
  if (cookies.length > 0) headers["set-cookie"] = cookies
  if (response.body !== null && "content-encoding" in headers) {
    // The body is decoded already: these two no longer describe it.
    delete headers["content-encoding"]
    delete headers["content-length"]
  }
  return headers
}

const codeOf = (error: Error): string => ("code" in error && typeof error.code === "string" ? error.code : "")

/** `fetch` says "fetch failed"; what happened is its cause. */
const classify = (error: Error): Failure => {
  if (error instanceof RequestBodyError) return { _tag: "Rejected", reason: error.message, cause: error.cause }
  const cause = error.cause instanceof Error ? error.cause : error
  if (cause !== error && cause instanceof RequestBodyError) return classify(cause)
  const code = codeOf(cause)
  const phase = connectPhase(cause, code)
  if (phase !== undefined) return { _tag: "Connect", phase, address: undefined, millis: 0, cause }
  if (code === "UND_ERR_HEADERS_OVERFLOW") {
    return { _tag: "Protocol", reason: "its headers are too large for fetch", cause }
  }
  // Its code is sometimes missing.
  if (cause.name === "HTTPParserError")
    return { _tag: "Protocol", reason: `it is not HTTP/1.1 (${cause.message})`, cause: withoutBytes(cause) }
  if (code === "UND_ERR_INVALID_ARG" || code === "UND_ERR_REQ_CONTENT_LENGTH_MISMATCH" || cause instanceof TypeError) {
    return { _tag: "Rejected", reason: cause.message, cause }
  }
  return { _tag: "Broken", cause }
}

const connectPhase = (cause: Error, code: string): ConnectPhase | undefined => {
  const syscall = "syscall" in cause ? cause.syscall : undefined
  if (syscall === "getaddrinfo") return "dns"
  if (syscall === "connect" || code === "UND_ERR_CONNECT_TIMEOUT" || cause instanceof AggregateError) return "tcp"
  return /CERT|^ERR_TLS_|^ERR_SSL_|SELF_SIGNED|UNABLE_TO_/.test(code) ? "tls" : undefined
}
