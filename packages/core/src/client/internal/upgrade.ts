/**
 * A request for another protocol, over a connection of its own.
 *
 * It takes no slot: a slot is a place in a rotation of short requests, and a WebSocket that lasts for hours would take it out.
 * So what it has of a pool is the way to the server (addresses, TLS, limits of time) and the policies that look at one
 * attempt. When the pool ends, after its drain, so do these connections.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { HttpClientRequest } from "effect/http/HttpClientRequest"
import * as HttpClientResponse from "effect/http/HttpClientResponse"
import * as Scope from "effect/Scope"
import type * as Connector from "../Connector.ts"
import * as PoolError from "../../model/PoolError.ts"
import type { Timers } from "../../model/Timers.ts"
import { Raw } from "../../model/internal/rawHeaders.ts"
import * as Gate from "../../policy/Gate.ts"
import * as BaseUrl from "./baseUrl.ts"
import type { Limits } from "./exchange.ts"
import { invalid, toPoolError } from "./failures.ts"
import type { Host } from "./host.ts"
import { outgoing, type PoolState } from "./state.ts"

type Response = HttpClientResponse.HttpClientResponse
type Answer = Connector.Switched | Response

/** Nobody counts these connections but who has them. */
const nobody: Connector.Observer = { connected: () => {}, disconnected: () => {} }

/** The shortest of the limits that a request has until its head. */
const limitOf = ({ attempt, headers, request }: Limits) => {
  const all = [
    { phase: "headers", millis: headers?.millis ?? Infinity },
    { phase: "attempt", millis: attempt?.millis ?? Infinity },
    { phase: "request", millis: request?.millis ?? Infinity }
  ] as const
  return all.reduce((shortest, next) => (next.millis < shortest.millis ? next : shortest))
}

/** RFC 9110, 15.4.5 and 15.3.5: `Response` wants no body there. */
const bodiless: ReadonlySet<number> = new Set([204, 205, 304])

const toResponse = (
  request: HttpClientRequest,
  { headers, status }: Connector.Declined,
  body: ReadableStream<Uint8Array>
): Response | undefined => {
  if (status < 200 || status > 599) return undefined
  const web = new globalThis.Response(bodiless.has(status) ? null : body, { status })
  for (const name in headers) for (const value of [headers[name] ?? []].flat()) web.headers.append(name, value)
  return Object.assign(HttpClientResponse.fromWeb(request, web), { [Raw]: headers })
}

/** Fails when a piece that is asked for does not come in time. */
const moving = (
  body: ReadableStream<Uint8Array>,
  millis: number,
  timers: Timers,
  late: () => PoolError.PoolError
): ReadableStream<Uint8Array> => {
  if (millis === Infinity) return body
  const reader = body.getReader()
  return new ReadableStream<Uint8Array>(
    {
      pull: async (controller) => {
        const cancel = timers.after(millis, () => {
          const error = late()
          controller.error(error)
          // What it comes to is of no interest: the scope of the request closes the connection.
          reader.cancel(error).catch(() => {})
        })
        const next = await reader.read().finally(cancel)
        if (!next.done) controller.enqueue(next.value)
        else controller.close()
      },
      cancel: (reason) => reader.cancel(reason)
    },
    { highWaterMark: 0 }
  )
}

class Upgrader {
  readonly #state: PoolState
  /** Of all that are open. */
  readonly #scope: Scope.Scope
  #count = 0

  constructor(state: PoolState, scope: Scope.Scope) {
    this.#state = state
    this.#scope = scope
  }

  readonly run = (request: HttpClientRequest): Effect.Effect<Answer, PoolError.PoolError, Scope.Scope> =>
    Effect.suspend(() => {
      const located = this.#state.locate(request)
      if (located instanceof Error) return Effect.fail(located)
      const { upgrade } = this.#state.connector
      if (upgrade === undefined) return Effect.fail(invalid(request, "its connector cannot hand over a connection"))
      const { host } = located
      // Whichever ends first, the caller's scope or the pool.
      const scope = Effect.acquireRelease(Scope.fork(this.#scope), Scope.close)
      return Effect.flatMap(scope, (own) =>
        Gate.through(host.policies?.gates ?? [], request, (sent) => Scope.provide(this.#send(upgrade, host, sent), own))
      )
    })

  #send(
    upgrade: Connector.Upgrade,
    host: Host,
    request: HttpClientRequest
  ): Effect.Effect<Answer, PoolError.PoolError, Scope.Scope> {
    const { origin, path } = BaseUrl.resolve(this.#state.base, request)
    if (origin !== host.origin) return Effect.fail(invalid(request, "a policy led it to another origin"))
    const info = PoolError.requestInfo(request.method, origin + path, request.urlParams)
    const { config, timers } = this.#state
    const target = { slot: this.#count++, origin, options: config.connection, observer: nobody, timers }
    const limit = limitOf(host.limits)
    const bodyIdle = host.limits.bodyIdle?.millis ?? Infinity
    const late = (phase: PoolError.TimeoutPhase, millis: number) =>
      new PoolError.TimeoutError({ request: info, attempts: 1, phase, timeout: Duration.millis(millis) })
    const failed = (failure: Connector.Failure) =>
      toPoolError(failure, {
        method: request.method,
        body: request.body,
        info,
        attempts: 1,
        address: undefined,
        begun: true,
        writtenWhole: true,
        reused: false,
        responseBegun: false,
        replayed: false,
        everBegun: true
      })
    const answered = Effect.mapError(
      upgrade(target, { path, headers: outgoing(request, host.headers, undefined) }),
      failed
    ).pipe(
      Effect.flatMap((answer): Effect.Effect<Answer, PoolError.PoolError> => {
        if (answer._tag === "Switched") return Effect.succeed(answer)
        const response = toResponse(
          request,
          answer,
          moving(answer.body, bodyIdle, timers, () => late("bodyIdle", bodyIdle))
        )
        const reason = `it has the status ${answer.status}`
        return response === undefined
          ? Effect.fail(failed({ _tag: "Protocol", reason, cause: undefined }))
          : Effect.succeed(response)
      })
    )
    if (limit.millis === Infinity) return answered
    return Effect.timeoutOrElse(answered, {
      duration: limit.millis,
      orElse: () => Effect.fail(late(limit.phase, limit.millis))
    })
  }
}

/** For one pool, whose scope it is made in. */
export const upgrader = (state: PoolState): Effect.Effect<Upgrader["run"], never, Scope.Scope> =>
  Effect.gen(function* () {
    const scope = yield* Effect.scope
    return new Upgrader(state, yield* Scope.fork(scope, "parallel")).run
  })
