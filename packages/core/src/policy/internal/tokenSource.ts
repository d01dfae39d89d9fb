/**
 * Access tokens, kept until they are near their end.
 *
 * What it promises:
 *
 * - There is one request for a token at a time, whoever waits for it: a caller that leaves takes nothing from the others.
 *   It ends by itself at the latest when its retries do, and with the scope.
 * - While a token is good, nobody waits: the first who comes when it is near its end only starts the request for the next.
 * - A failure is told to all who wait for it, and to all who come within a time that doubles with each failure in a row;
 *   then the next caller tries again. A token that is still good is used all the same.
 * - A token that a server refused is dropped, and no other is.
 */
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type { HttpClientRequest } from "effect/http/HttpClientRequest"
import * as Result from "effect/Result"
import type { Timers } from "../../model/Timers.ts"
import { AuthError, requestInfo } from "../../model/PoolError.ts"
import type { Auth } from "../Auth.ts"
import type { OAuth2 } from "./authOptions.ts"
import { authorizationOf, headerSetter, Issued } from "./credentials.ts"
import { requestToken, type Send, type Token, type TokenFailure } from "./tokenRequest.ts"

/** What a token source lives on. */
export interface Deps {
  readonly timers: Pick<Timers, "now">
  readonly send: Send
  /** Runs an effect beside everything else. */
  readonly fork: <A, E>(effect: Effect.Effect<A, E>) => Fiber.Fiber<A, E>
}

/** For how long nobody asks again after a failure, in milliseconds; doubled for each failure in a row. */
const firstPause = 1_000
const maxPause = 30_000

/** Servers that refuse every token must not cost the endpoint a request each: so many drops, and one more a second. */
const maxDrops = 10

interface Held {
  readonly header: string
  readonly renewAt: number
  readonly endsAt: number
  readonly put: (request: HttpClientRequest) => HttpClientRequest
}

type Pending = Deferred.Deferred<Held, TokenFailure>

export class TokenSource implements Auth {
  private readonly options: OAuth2
  private readonly deps: Deps
  private readonly url: string
  private readonly next: Effect.Effect<Token, TokenFailure>
  private readonly issued = new Issued()
  // Not shown when it is inspected, as a `private` field is.
  #held: Held | undefined = undefined
  private pending: Pending | undefined = undefined
  private fiber: Fiber.Fiber<Token, TokenFailure> | undefined = undefined
  private failure: TokenFailure | undefined = undefined
  private failures = 0
  /** Until when a failure is told again. */
  private pausedUntil = -Infinity
  private drops = maxDrops
  private droppedAt = -Infinity
  private closed = false

  constructor(options: OAuth2, deps: Deps) {
    this.options = options
    this.deps = deps
    this.url = options.tokenUrl.href
    // Nothing of it runs while a gate is asked.
    this.next = Effect.andThen(
      Effect.yieldNow,
      requestToken(options, deps.send, () => deps.timers.now())
    )
  }

  readonly authorize = (
    request: HttpClientRequest
  ): HttpClientRequest | Effect.Effect<HttpClientRequest, AuthError> => {
    // A token request may come through here: it has its own credentials, and would wait for itself.
    if (authorizationOf(request) !== undefined || request.url === this.url) return request
    const held = this.#held
    if (held !== undefined) {
      const now = this.deps.timers.now()
      if (now >= held.renewAt) this.renew(now)
      if (now < held.endsAt) return held.put(request)
    }
    return this.wait(request)
  }

  readonly rejected = (request: HttpClientRequest): boolean => {
    if (!this.issued.has(request)) return false
    // It carried an older one.
    if (this.#held?.header !== authorizationOf(request)) return true
    const now = this.deps.timers.now()
    this.drops = Math.min(maxDrops, this.drops + (now - this.droppedAt) / 1_000)
    this.droppedAt = now
    if (this.drops < 1) return false
    this.drops--
    this.#held = undefined
    return true
  }

  readonly close: Effect.Effect<void> = Effect.suspend(() => {
    this.closed = true
    return this.fiber === undefined ? Effect.void : Fiber.interrupt(this.fiber)
  })

  private wait(request: HttpClientRequest): Effect.Effect<HttpClientRequest, AuthError> {
    return Effect.suspend(() => {
      const now = this.deps.timers.now()
      const held = this.#held
      if (held !== undefined && now < held.endsAt) return Effect.succeed(held.put(request))
      const refused = this.pending === undefined ? this.refusal(now) : undefined
      if (refused !== undefined) return Effect.fail(authError(request, refused))
      return Effect.matchEffect(Deferred.await(this.pending ?? this.start()), {
        onSuccess: (fresh) => Effect.succeed(fresh.put(request)),
        onFailure: (failure) => Effect.fail(authError(request, failure))
      })
    })
  }

  private renew(now: number): void {
    if (this.pending === undefined && this.refusal(now) === undefined) this.start()
  }

  /** Why no request is made now. */
  private refusal(now: number): TokenFailure | undefined {
    if (this.closed) return { reason: "the scope of its `Auth.oauth2` has ended", transient: false }
    if (this.failure === undefined || now >= this.pausedUntil) return undefined
    const wait = Math.ceil(this.pausedUntil - now)
    return { ...this.failure, reason: `${this.failure.reason}; it will be asked again in ${wait} ms` }
  }

  private start(): Pending {
    const pending: Pending = Deferred.makeUnsafe()
    this.pending = pending
    this.fiber = this.deps.fork(this.next)
    this.fiber.addObserver((exit) => this.finish(pending, exit))
    return pending
  }

  private finish(pending: Pending, exit: Exit.Exit<Token, TokenFailure>): void {
    this.pending = undefined
    this.fiber = undefined
    if (Exit.isSuccess(exit)) {
      this.failure = undefined
      this.failures = 0
      this.#held = this.hold(exit.value)
      Deferred.doneUnsafe(pending, Exit.succeed(this.#held))
      return
    }
    const failure = failureOf(exit.cause)
    const pause = Math.max(firstPause * 2 ** this.failures++, failure.retryAfter ?? 0)
    this.failure = failure
    this.pausedUntil = this.deps.timers.now() + Math.min(pause, maxPause)
    Deferred.doneUnsafe(pending, Exit.fail(failure))
  }

  private hold({ askedAt, lifetime, value }: Token): Held {
    const header = `Bearer ${value}`
    this.issued.add(header)
    const endsAt = askedAt + lifetime
    const renewAt = endsAt - Math.min(this.options.skew, lifetime / 2)
    return { header, endsAt, renewAt, put: headerSetter("authorization", header) }
  }
}

const failureOf = (cause: Cause.Cause<TokenFailure>): TokenFailure => {
  const failure = Cause.findError(cause)
  if (Result.isSuccess(failure)) return failure.success
  return Cause.hasDies(cause)
    ? { reason: "the client for token requests died", transient: false, cause: Cause.squash(cause) }
    : { reason: "the scope of its `Auth.oauth2` has ended", transient: false }
}

const authError = (request: HttpClientRequest, { cause, reason }: TokenFailure): AuthError =>
  new AuthError({ request: requestInfo(request.method, request.url, request.urlParams), attempts: 0, reason, cause })
