/**
 * One exchange over `node:http`.
 *
 * States: `fresh` → `running` (a `ClientRequest` exists) → `ending` (all has arrived) → `done`, entered in one place
 * (`#finish`), after which nothing is reported. Failing and aborting lead there from every state before. The end of a response is reported when node has let go of the request (`close`): only then is the
 * connection free, or known to be gone.
 *
 * @since 0.1.0
 */
import type { Control, Exchange, Failure, RawHeaders } from "@millrace/core/client/Connector"
import * as Http from "node:http"
import { Socket } from "node:net"
import type { Duplex } from "node:stream"
import * as Undici from "undici"
import { asError, encode, type Encoded, RequestBodyError } from "./body.ts"
import { DialError } from "./dial.ts"
import { withoutBytes } from "./parserError.ts"

/**
 * Lends out the one connection that the transport has made.
 *
 * @internal
 */
export class SocketAgent extends Http.Agent {
  socket: Socket | undefined = undefined

  constructor() {
    super({ keepAlive: true, maxSockets: 1, keepAliveMsecs: 60_000 })
  }

  override createConnection(
    _options: Http.ClientRequestArgs,
    callback?: (error: Error | null, socket: Duplex) => void
  ): Socket | undefined {
    const { socket } = this
    this.socket = undefined
    // None is left when the connection died after the transport had looked at it.
    if (socket === undefined) callback?.(new Error("the connection was closed"), new Socket())
    // While it was idle it kept no process alive; those that the agent has itself, it refs itself.
    socket?.ref()
    return socket
  }
}

/** @internal */
export class Running {
  readonly #exchange: Exchange
  readonly #socket: Socket
  readonly #free: (keepAlive: number) => void
  readonly #bytesBefore: number
  #state: "fresh" | "running" | "ending" | "done" = "fresh"
  #request: Http.ClientRequest | undefined = undefined
  #response: Http.IncomingMessage | undefined = undefined
  #cancelBody = noop
  #paused = false
  #started = false

  /** `free` is called when the exchange is over, with the time for which the server promises to keep the connection. */
  constructor(exchange: Exchange, socket: Socket, free: (keepAlive: number) => void) {
    this.#exchange = exchange
    this.#socket = socket
    this.#free = free
    this.#bytesBefore = socket.bytesRead
  }

  readonly #control: Control = {
    abort: (reason) => {
      if (this.#state === "done") return
      this.#finish()
      this.#destroy(reason)
    },
    pause: () => {
      this.#paused = true
      this.#response?.pause()
    },
    resume: () => {
      this.#paused = false
      this.#response?.resume()
    }
  }

  /** `toProxy`: the headers for a proxy that wants the absolute form. */
  start(options: Http.RequestOptions, origin: string, toProxy: ReadonlyArray<string> | undefined): void {
    const { body, method, path, services } = this.#exchange
    const encoded = encode(body, services)
    if (encoded instanceof RequestBodyError) return this.fail(encoded)
    this.#cancelBody = encoded.cancel
    try {
      this.#exchange.onRequestStart(this.#control)
      // The exchange may have aborted at once.
      if (this.#over()) return
      const payload = framed(encoded, [...this.#exchange.headers, ...(toProxy ?? [])], new URL(origin).host)
      const request = new Http.ClientRequest({
        ...options,
        method,
        path: toProxy !== undefined && path.startsWith("/") ? origin + path : path,
        headers: payload.headers
      })
      this.#state = "running"
      this.#request = request
      this.#listen(request)
      const { source } = payload
      if (source === null || typeof source === "string" || source instanceof Uint8Array)
        request.end(source ?? undefined)
      else void this.#upload(source, request)
    } catch (error) {
      // Node checks method, path and headers when it is given them.
      this.fail(asError(error))
    }
  }

  fail(error: Error): void {
    if (this.#state === "ending" || this.#state === "done") return
    if (this.#socket.bytesRead > this.#bytesBefore) this.#begin()
    const control = this.#request === undefined ? null : this.#control
    this.#finish()
    if (this.#request !== undefined) this.#destroy(error)
    this.#exchange.onResponseError(control, error)
  }

  /** Never rejects. */
  async #upload(source: AsyncIterable<Uint8Array>, request: Http.ClientRequest): Promise<void> {
    try {
      for await (const chunk of source) {
        if (this.#over()) return
        if (!request.write(chunk)) await drained(request)
      }
      request.end()
    } catch (error) {
      // An early answer that is complete stays an answer.
      if (this.#response?.readableEnded !== true) this.fail(asError(error))
    }
  }

  #listen(request: Http.ClientRequest): void {
    request.on("error", (error) => this.fail(error))
    request.on("finish", () => {
      if (this.#state === "running") this.#exchange.onRequestSent()
    })
    request.on("information", ({ headers, statusCode }) => this.#head(statusCode, headers))
    request.on("response", (response) => this.#receive(request, response))
    request.on("close", () => this.#complete())
  }

  #receive(request: Http.ClientRequest, response: Http.IncomingMessage): void {
    if (this.#state === "done") return
    this.#response = response
    response.on("error", (error) => this.fail(error))
    response.on("data", (chunk: Buffer) => {
      if (this.#state === "running") this.#exchange.onResponseData(this.#control, chunk)
    })
    response.on("end", () => {
      if (!request.writableFinished) {
        // An answer before all was sent: it counts, and what is left of the request is not worth a connection.
        this.#cancelBody()
        this.#destroy()
      }
      this.#complete()
    })
    this.#head(response.statusCode ?? 0, collected(response.rawHeaders))
    if (this.#paused) response.pause()
  }

  #head(status: number, headers: RawHeaders): void {
    if (this.#state === "done") return
    this.#begin()
    this.#exchange.onResponseStart(this.#control, status, headers)
  }

  #begin(): void {
    if (this.#started) return
    this.#started = true
    this.#exchange.onResponseStarted()
  }

  /** The body has ended and node has let go of the request, in whichever order. */
  #complete(): void {
    const response = this.#response
    if (this.#state !== "running" || this.#request?.closed !== true || response?.readableEnded !== true) return
    this.#state = "ending"
    // Node gives the connection back to the agent right after `close`.
    queueMicrotask(() => {
      if (this.#over()) return
      this.#finish()
      this.#exchange.onResponseEnd(this.#control)
    })
  }

  #finish(): void {
    this.#state = "done"
    this.#cancelBody()
    const promised = /timeout=(\d+)/.exec(String(this.#response?.headers["keep-alive"]))?.[1]
    this.#free(promised === undefined ? Infinity : Number(promised) * 1000)
  }

  /** A method, so that the compiler does not take the state of before a call for the state after it. */
  #over(): boolean {
    return this.#state === "done"
  }

  #destroy(error?: Error): void {
    this.#request?.destroy(error)
    this.#socket.destroy()
  }
}

const noop = (): void => {}

/** Resolves when there is room for more, or when there never will be. */
const drained = (request: Http.ClientRequest): Promise<void> =>
  new Promise((resolve) => {
    const done = () => {
      request.off("drain", done).off("close", done)
      resolve()
    }
    request.on("drain", done).on("close", done)
  })

/** How the body goes over the wire: its bytes, and the headers that tell the server where it ends. */
const framed = (encoded: Encoded, list: ReadonlyArray<string>, host: string) => {
  const headers = new Map<string, string | Array<string>>([["host", host]])
  for (const [name, value] of pairs(list)) {
    const before = name === "host" ? undefined : headers.get(name)
    headers.set(name, before === undefined ? value : [before, value].flat())
  }
  const { contentLength } = encoded
  let { contentType, body: source } = encoded
  if (source instanceof Undici.FormData) {
    const form = new Undici.Response(source)
    contentType = form.headers.get("content-type") ?? undefined
    source = form.body
  }
  if (contentType !== undefined && !headers.has("content-type")) headers.set("content-type", contentType)
  if (source === null || typeof source === "string" || source instanceof Uint8Array) {
    // Node counts by itself; what the caller counted may be wrong.
    headers.delete("transfer-encoding")
    if (source === null) headers.delete("content-length")
    else headers.set("content-length", String(Buffer.byteLength(source)))
    return { headers: Object.fromEntries(headers), source }
  }
  const named = headers.get("content-length")
  const length = contentLength ?? (typeof named === "string" ? Number(named) : undefined)
  // Without either, node would send the body of a GET with no end that the server could see.
  if (length === undefined) headers.set("transfer-encoding", "chunked")
  else headers.set("content-length", String(length))
  return { headers: Object.fromEntries(headers), source: length === undefined ? source : counted(source, length) }
}

/** Fails rather than send more or less than the header says: the rest would be read as another request. */
async function* counted(source: AsyncIterable<Uint8Array>, length: number): AsyncGenerator<Uint8Array> {
  let sent = 0
  for await (const chunk of source) {
    sent += chunk.length
    if (sent > length) break
    yield chunk
  }
  if (sent !== length) throw new RequestBodyError(`the request body is not the ${length} bytes that were promised`)
}

const pairs = function* (list: ReadonlyArray<string>): Generator<readonly [name: string, value: string]> {
  for (let i = 0; i + 1 < list.length; i += 2) yield [list[i]!.toLowerCase(), list[i + 1]!]
}

/**
 * Node's own `headers` drop some repeated ones.
 *
 * @internal
 */
export const collected = (raw: ReadonlyArray<string>): { [name: string]: string | Array<string> } => {
  const headers: { [name: string]: string | Array<string> } = Object.create(null)
  for (const [name, value] of pairs(raw)) {
    const before = headers[name]
    headers[name] = before === undefined ? value : [before, value].flat()
  }
  return headers
}

/** @internal */
export const classify = (error: Error): Failure => {
  if (error instanceof DialError) return error.failure
  if (error instanceof RequestBodyError) return { _tag: "Rejected", reason: error.message, cause: error.cause }
  const code = "code" in error && typeof error.code === "string" ? error.code : ""
  if (code === "HPE_HEADER_OVERFLOW") {
    return { _tag: "Protocol", reason: "its headers are larger than `maxHeaderSize`", cause: withoutBytes(error) }
  }
  if (code.startsWith("HPE_"))
    return { _tag: "Protocol", reason: `it is not HTTP/1.1 (${error.message})`, cause: withoutBytes(error) }
  // ERR_HTTP_*, ERR_INVALID_*, ERR_UNESCAPED_CHARACTERS: node refuses what it was given.
  if (code.startsWith("ERR_")) return { _tag: "Rejected", reason: error.message, cause: error }
  return { _tag: "Broken", cause: error }
}
