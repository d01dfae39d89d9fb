/**
 * One request on its way through a proxy.
 *
 * ```
 * client ──► refuse what is ambiguous ──► headers, path ──► hook ──► a target's pool ──► upstream
 *        ◄── body, as fast as it is taken ◄── headers ◄── hook ◄──┘
 * ```
 *
 * Nothing is kept of a body but what the pool and the server buffer. When the request's scope ends, its place in the pool
 * is given back: by the end of the body, or by an abort.
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as HttpBody from "effect/http/HttpBody"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import type { HttpClientResponse } from "effect/http/HttpClientResponse"
import { HttpServerRequest } from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as UrlParams from "effect/http/UrlParams"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { Headers } from "effect/http/Headers"
import type { RawConnection } from "../../model/RawConnection.ts"
import type { Switched } from "../../client/Connector.ts"
import { rawHeadersOf } from "../../model/internal/rawHeaders.ts"
import { wholeBodyOf } from "../../model/internal/wholeBody.ts"
import { find, type PoolError } from "../../model/PoolError.ts"
import * as Discard from "../../policy/internal/discard.ts"
import { type Balancer, neverSent, type Target } from "./balance.ts"
import * as ProxyHeaders from "./proxyHeaders.ts"
import type { Resolved } from "./proxyOptions.ts"
import { isPrepared, prepare, type Prepared, tooLarge } from "./proxyRequest.ts"
import { late, ofError, problem } from "./proxyProblem.ts"
import { type Offer, Takeover } from "../Takeover.ts"
import { tunnel } from "./tunnel.ts"
import * as WebSocket from "./webSocket.ts"

type Answer = HttpServerResponse.HttpServerResponse
type Handled = Effect.Effect<Answer, unknown, HttpServerRequest | Scope.Scope>

class TooLarge extends Data.TaggedError("TooLarge") {}

/** The proxy's own time limit has passed. */
class Late extends Data.TaggedError("Late") {}

// ------------------------------------------------------------------ the way up

/** The body of a request, which can be read once. */
class Upload {
  readonly body: HttpBody.HttpBody
  started = false
  /** Why it could not be read to its end. */
  failure: unknown = undefined

  constructor(request: HttpServerRequest, { framing, headers }: Prepared, limit: number) {
    if (framing._tag !== "Length" && framing._tag !== "Chunked") {
      this.body = HttpBody.empty
      return
    }
    const stream = Stream.suspend(() => {
      this.started = true
      // A length is kept by whoever parses; it was looked at before.
      return framing._tag === "Length" || limit === Infinity ? request.stream : limited(request.stream, limit)
    })
    this.body = HttpBody.stream(
      Stream.mapError(stream, (failure) => {
        this.failure = failure
        return failure
      }),
      headers["content-type"] ?? "",
      framing._tag === "Length" ? framing.length : undefined
    )
  }
}

const limited = <E>(stream: Stream.Stream<Uint8Array, E>, limit: number): Stream.Stream<Uint8Array, E | TooLarge> => {
  let size = 0
  return Stream.mapEffect(stream, (chunk) => {
    size += chunk.length
    return size > limit ? Effect.fail(new TooLarge()) : Effect.succeed(chunk)
  })
}

// ------------------------------------------------------------------ both

const noteError = (settings: Resolved, error: PoolError): Effect.Effect<void> => {
  if (settings.onError !== undefined) return settings.onError(error)
  const expected = error._tag === "PoolSaturated" || error._tag === "CircuitOpen" || error._tag === "RateLimitExceeded"
  return expected ? Effect.logDebug(error.message) : Effect.logWarning(error.message)
}

const nobody: Effect.Effect<Target | undefined> = Effect.succeed(undefined)

/** The answer that a failure holds: a pool may take some statuses for errors. */
const responseIn = (error: PoolError): HttpClientResponse | undefined => {
  if (error._tag === "RetryExhausted") return responseIn(error.last)
  return error._tag === "ResponseError" ? error.response : undefined
}

class Forwarding {
  readonly #balancer: Balancer
  readonly #settings: Resolved
  readonly #prepared: Prepared
  readonly #upload: Upload
  /** What the client's connection can be had by, if it asks for a WebSocket. */
  readonly #offer: Offer | undefined
  #target: Target | undefined = undefined
  #response: HttpClientResponse | undefined = undefined
  #started = false

  constructor(
    balancer: Balancer,
    settings: Resolved,
    request: HttpServerRequest,
    prepared: Prepared,
    offer: Offer | undefined
  ) {
    this.#offer = offer
    this.#balancer = balancer
    this.#settings = settings
    this.#prepared = prepared
    this.#upload = new Upload(request, prepared, settings.maxBodySize)
  }

  get run(): Handled {
    return Effect.flatMap(
      Effect.addFinalizer(() => this.#end),
      () => Effect.flatMap(this.#balancer.choose, (target) => this.#send(target, true))
    )
  }

  /** Nobody is there any more, or all is sent. */
  get #end(): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.#leave()
      const response = this.#response
      return response === undefined || this.#started ? Effect.void : Discard.abort(response)
    })
  }

  #leave(): void {
    if (this.#target !== undefined) this.#target.pending--
    this.#target = undefined
  }

  #send(target: Target, mayTryAnother: boolean): Handled {
    const { headers, method, target: path } = this.#prepared
    const request = HttpClientRequest.makeWith(
      method,
      target.urlOf(path.path, path.query),
      UrlParams.empty,
      Option.none(),
      headers,
      this.#upload.body
    )
    this.#leave()
    target.pending++
    target.requests++
    this.#target = target
    const { client, upgrade } = target.pool
    const execute = this.#inTime(this.#offer === undefined ? client.execute(request) : upgrade(request))
    // Between the response and its being known here there is no moment at which it could be lost.
    return Effect.uninterruptibleMask((restore) =>
      Effect.matchEffect(restore(execute), {
        onSuccess: (response) => {
          this.#balancer.reached(target)
          return restore("connection" in response ? this.#switch(target, response) : this.#answer(response))
        },
        onFailure: (error) => restore(error._tag === "Late" ? this.#late : this.#failed(target, error, mayTryAnother))
      })
    )
  }

  #inTime<A, R>(execute: Effect.Effect<A, PoolError, R>): Effect.Effect<A, PoolError | Late, R> {
    const { timeout } = this.#settings
    if (timeout === Infinity) return execute
    return Effect.timeoutOrElse(execute, { duration: timeout, orElse: () => Effect.fail(new Late()) })
  }

  get #late(): Handled {
    const { method } = this.#prepared
    const { timeout } = this.#settings
    return Effect.as(
      Effect.logWarning(`No answer to a ${method} within the proxy's \`timeout\` of ${timeout} ms`),
      late()
    )
  }

  #failed(target: Target, error: PoolError, mayTryAnother: boolean): Handled {
    this.#balancer.failed(target, error)
    const response = responseIn(error)
    if (response !== undefined) return this.#answer(response)
    const { failure, started } = this.#upload
    if (failure instanceof TooLarge) return Effect.succeed(tooLarge())
    if (failure !== undefined) return Effect.succeed(problem(400, "The body of the request cannot be read."))
    const noted = noteError(this.#settings, error)
    // A body that was begun cannot be had again.
    const other =
      mayTryAnother && !started && neverSent(error, this.#prepared.method) ? this.#balancer.other(target) : nobody
    return Effect.flatMap(Effect.andThen(noted, other), (next) =>
      next === undefined ? Effect.succeed(ofError(error)) : this.#send(next, false)
    )
  }

  /** The upstream speaks WebSocket from here on; so will the client. */
  #switch(target: Target, { connection, headers: raw }: Switched): Handled {
    const offer = this.#offer
    if (offer === undefined || !WebSocket.isTaken(raw)) {
      return Effect.succeed(problem(502, "The service gave an answer that cannot be passed on."))
    }
    const { responseHeaders: hook, webSocketIdleTimeout } = this.#settings
    const { headers } = ProxyHeaders.ofResponse(raw)
    const passed = hook === undefined ? Effect.succeed(headers) : hook(headers)
    const counted = Effect.acquireRelease(
      Effect.sync(() => void target.webSockets++),
      () => Effect.sync(() => void target.webSockets--)
    )
    const piped = (client: RawConnection) =>
      Effect.andThen(counted, tunnel(client, connection, webSocketIdleTimeout)).pipe(
        Effect.as(HttpServerResponse.empty({ status: 101 }))
      )
    const run = (given: Headers) => {
      let accepted = false
      // The client's connection is closed before this ends: nothing more can be written to it.
      return Effect.scoped(
        Effect.flatMap(offer.accept(WebSocket.taking(ProxyHeaders.withoutFraming(given), raw)), (client) => {
          accepted = true
          return piped(client)
        })
      ).pipe(
        Effect.catch((error) =>
          Effect.as(
            Effect.logDebug(error.message),
            accepted
              ? HttpServerResponse.empty({ status: 101 })
              : problem(502, "The service gave an answer that cannot be passed on.")
          )
        )
      )
    }
    return Effect.flatMap(passed, run)
  }

  /** Of what is given to the server from here on, only the body can still fail: then the connection is cut. */
  #answer(response: HttpClientResponse): Handled {
    this.#response = response
    const { status } = response
    const raw = rawHeadersOf(response)
    if (status > 599 || !ProxyHeaders.isDecoded(raw)) {
      return Effect.succeed(problem(502, "The service gave an answer that cannot be passed on."))
    }
    const head = ProxyHeaders.ofResponse(raw)
    const length = ProxyHeaders.lengthOf(raw)
    const { responseHeaders: hook } = this.#settings
    if (hook === undefined) return Effect.succeed(this.#withBody(response, head, length))
    return Effect.map(hook(head.headers), (headers) =>
      this.#withBody(response, { ...head, headers: ProxyHeaders.withoutFraming(headers) }, length)
    )
  }

  #withBody(
    response: HttpClientResponse,
    { cookies, headers, lines }: ProxyHeaders.Head,
    length: number | undefined
  ): Answer {
    const { status } = response
    const answer = HttpServerResponse.empty({ status, headers, cookies })
    // Servers on Node write a list line by line; all others would make one line of it.
    if (lines !== undefined) Object.assign(answer.headers, { "set-cookie": lines })
    const isHead = this.#prepared.method === "HEAD"
    if (isHead || status === 204 || status === 205 || status === 304) {
      // What a GET would have got, which only these two may say.
      const says = length !== undefined && (isHead || status === 304)
      return says ? HttpServerResponse.setHeader(answer, "content-length", String(length)) : answer
    }
    const type = headers["content-type"]
    const full = HttpServerResponse.setBody(answer, this.#body(response, type ?? "", length))
    return type === undefined ? HttpServerResponse.removeHeader(full, "content-type") : full
  }

  /** A short one is mostly here with its head: a stream for it would take longer than all else. */
  #body(response: HttpClientResponse, type: string, length: number | undefined): HttpBody.HttpBody {
    const whole = wholeBodyOf(response)
    return whole !== undefined && whole.length === length
      ? HttpBody.uint8Array(whole, type)
      : HttpBody.stream(this.#download(response), type, length)
  }

  #download(response: HttpClientResponse): HttpClientResponse["stream"] {
    return Stream.suspend(() => {
      this.#started = true
      return Stream.tapError(response.stream, (error) => {
        const poolError = find(error)
        return poolError === undefined ? Effect.logWarning(error.message) : noteError(this.#settings, poolError)
      })
    })
  }
}

/** Sends a request on, and its answer back. */
export const forward = (balancer: Balancer, settings: Resolved): Handled =>
  Effect.flatMap(HttpServerRequest, (request) => {
    const prepared = prepare(request, settings)
    if (!isPrepared(prepared)) return Effect.succeed(prepared)
    if (WebSocket.isAsked(request.headers)) return forwardWebSocket(balancer, settings, request, prepared)
    return Effect.flatMap(
      hooked(settings, prepared),
      (changed) => new Forwarding(balancer, settings, request, changed, undefined).run
    )
  })

const forwardWebSocket = (
  balancer: Balancer,
  settings: Resolved,
  request: HttpServerRequest,
  prepared: Prepared
): Handled =>
  Effect.flatMap(Takeover, (takeover) => {
    const offer = takeover(request)
    if (offer === undefined) return Effect.succeed(problem(501, "WebSockets are not forwarded here."))
    const answered = Effect.flatMap(hooked(settings, prepared), ({ headers }) => {
      const handshake = { ...prepared, headers: WebSocket.asking(headers, request) }
      return new Forwarding(balancer, settings, request, handshake, offer).run
    })
    // Whatever else comes over a connection that was to be a WebSocket's is no request.
    return Effect.map(answered, (answer) => HttpServerResponse.setHeader(answer, "connection", "close"))
  })

/** As the user's hook wants it. */
const hooked = (
  settings: Resolved,
  prepared: Prepared
): Effect.Effect<Prepared, unknown, HttpServerRequest | Scope.Scope> => {
  const { requestHeaders: hook } = settings
  if (hook === undefined) return Effect.succeed(prepared)
  return Effect.map(hook(prepared.headers), (changed) => ({
    ...prepared,
    headers: ProxyHeaders.withoutFraming(changed)
  }))
}
