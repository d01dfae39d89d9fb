import { assert, describe, it } from "@effect/vitest"
import { Context, Deferred, Effect, Exit, Fiber, Option, Random, References, Scope, Tracer } from "effect"
import { HttpClientRequest } from "effect/http"
import { TestClock } from "effect/testing"
import type { AuthError } from "../../../src/model/PoolError.ts"
import * as Auth from "../../../src/policy/Auth.ts"
import { start, turn } from "../../fixtures/pools.ts"
import { grant, json, options, TokenEndpoint } from "../../fixtures/tokenEndpoint.ts"

const request = HttpClientRequest.get("https://api.test/x")

/** What it answers at once; a test that uses it says that nobody waits. */
const atOnce = (auth: Auth.Auth, sent = request): string | undefined => {
  const answer = auth.authorize(sent)
  if (Effect.isEffect(answer)) throw new Error("it waits")
  return answer.headers["authorization"]
}

const ask = (auth: Auth.Auth, sent = request): Effect.Effect<string | undefined, AuthError> =>
  Effect.suspend(() => {
    const answer = auth.authorize(sent)
    return Effect.map(Effect.isEffect(answer) ? answer : Effect.succeed(answer), (_) => _.headers["authorization"])
  })

const make = Effect.fnUntraced(function* (given: Partial<Auth.OAuth2Options> = {}) {
  const endpoint = new TokenEndpoint()
  const auth = yield* Auth.oauth2With(endpoint.client, { ...options, maxRetries: 0, ...given })
  return { endpoint, auth }
})

const carrying = (token: string) => HttpClientRequest.setHeader(request, "authorization", `Bearer ${token}`)

const down = Effect.succeed(json({ error: "server_error" }, 500))

describe("TokenSource", () => {
  describe("a token is kept", () => {
    it.effect("nothing is asked at construction", () =>
      Effect.gen(function* () {
        const { endpoint } = yield* make()
        yield* turn
        assert.strictEqual(endpoint.requests.length, 0)
      })
    )

    it.effect("the first caller waits for it; those that come later get it at once", () =>
      Effect.gen(function* () {
        const { auth, endpoint } = yield* make()
        assert.isTrue(Effect.isEffect(auth.authorize(request)))
        assert.strictEqual(yield* ask(auth), "Bearer t1")
        assert.strictEqual(atOnce(auth), "Bearer t1")
        assert.strictEqual(endpoint.requests.length, 1)
      })
    )

    it.effect("a caller that was told to wait, and begins when the token is there, gets that", () =>
      Effect.gen(function* () {
        const { auth, endpoint } = yield* make()
        const late = auth.authorize(request)
        yield* ask(auth)
        assert.strictEqual(Effect.isEffect(late) ? (yield* late).headers["authorization"] : undefined, "Bearer t1")
        assert.strictEqual(endpoint.requests.length, 1)
      })
    )

    it.effect("other headers stay; the request of the caller is not changed", () =>
      Effect.gen(function* () {
        const { auth } = yield* make()
        yield* ask(auth)
        const sent = HttpClientRequest.setHeader(request, "accept", "text/csv")
        const answer = auth.authorize(sent)
        assert.isFalse(Effect.isEffect(answer))
        assert.deepStrictEqual(Effect.isEffect(answer) ? {} : { ...answer.headers }, {
          accept: "text/csv",
          authorization: "Bearer t1"
        })
        assert.strictEqual(sent.headers["authorization"], undefined)
      })
    )

    it.effect("a request that already has an authorization header keeps its own, and nothing is asked for it", () =>
      Effect.gen(function* () {
        const { auth, endpoint } = yield* make()
        assert.strictEqual(atOnce(auth, carrying("own")), "Bearer own")
        assert.strictEqual(endpoint.requests.length, 0)
      })
    )

    it.effect("a token request that comes through it does not wait for itself", () =>
      Effect.gen(function* () {
        const { auth, endpoint } = yield* make({ method: "client_secret_post" })
        yield* ask(auth)
        const sent = endpoint.requests[0]
        assert.isDefined(sent)
        assert.strictEqual(atOnce(auth, sent), undefined)
      })
    )
  })

  describe("one request for a token at a time", () => {
    it.effect("a thousand concurrent callers make one token request", () =>
      Effect.gen(function* () {
        const { auth, endpoint } = yield* make()
        endpoint.answer = () => Effect.delay(Effect.succeed(grant("only")), "1 second")
        const callers = yield* start(
          Effect.all(
            Array.from({ length: 1_000 }, () => ask(auth)),
            { concurrency: 1_000 }
          )
        )
        yield* TestClock.adjust("1 second")
        assert.deepStrictEqual([...new Set(yield* Fiber.join(callers))], ["Bearer only"])
        assert.strictEqual(endpoint.requests.length, 1)
      })
    )

    it.effect("a caller interrupted while it waits does not take the token from the others", () =>
      Effect.gen(function* () {
        const { auth, endpoint } = yield* make()
        endpoint.answer = () => Effect.delay(Effect.succeed(grant("t")), "1 second")
        const first = yield* start(ask(auth))
        const second = yield* start(ask(auth))
        yield* Fiber.interrupt(first)
        yield* TestClock.adjust("1 second")
        assert.strictEqual(yield* Fiber.join(second), "Bearer t")
        assert.strictEqual(endpoint.requests.length, 1)
      })
    )

    it.effect("when all callers are gone the request goes on, and its token is kept", () =>
      Effect.gen(function* () {
        const { auth, endpoint } = yield* make()
        endpoint.answer = () => Effect.delay(Effect.succeed(grant("t")), "1 second")
        yield* Fiber.interrupt(yield* start(ask(auth)))
        assert.strictEqual(endpoint.interrupted.length, 0)
        yield* TestClock.adjust("1 second")
        assert.strictEqual(atOnce(auth), "Bearer t")
      })
    )

    it.effect("an endpoint that never answers keeps nobody for longer than the timeout and its retries", () =>
      Effect.gen(function* () {
        const { auth, endpoint } = yield* make({ timeout: "2 seconds", maxRetries: 1 })
        endpoint.answer = () => Effect.never
        const caller = yield* start(Effect.flip(ask(auth)))
        // Two requests and the longest wait between.
        yield* TestClock.adjust("4600 millis")
        assert.include((yield* Fiber.join(caller)).reason, "https://login.test/token did not answer within 2000 ms")
        assert.strictEqual(endpoint.interrupted.length, 2)
      })
    )

    it.effect("interruption at any moment: every caller ends, and one request serves all the others", () =>
      Effect.gen(function* () {
        for (let budget = 3; budget <= 60; budget++) {
          const { auth, endpoint } = yield* make()
          const answered = yield* Deferred.make<Response>()
          endpoint.answer = () => Deferred.await(answered)
          const callers = yield* Effect.forEach([1, 2, 3], () =>
            Effect.forkChild(Effect.provideService(ask(auth), References.MaxOpsBeforeYield, budget), {
              startImmediately: true
            })
          )
          const moment = yield* Random.nextIntBetween(0, 12)
          for (let i = 0; i < moment; i++) yield* Effect.yieldNow
          yield* Deferred.succeed(answered, grant("t"))
          const gone = callers[budget % 3]
          if (gone !== undefined) yield* Fiber.interrupt(gone)
          const exits = yield* Effect.forEach(callers, (caller) => Fiber.await(caller))
          assert.isAtLeast(exits.filter(Exit.isSuccess).length, 2)
          yield* turn
          assert.strictEqual(atOnce(auth), "Bearer t")
          assert.strictEqual(endpoint.requests.length, 1)
        }
      })
    )
  })

  describe("refreshed before its end", () => {
    it.effect("from `skew` before the end the first caller starts the next request, and nobody waits", () =>
      Effect.gen(function* () {
        const { auth, endpoint } = yield* make()
        yield* ask(auth)
        endpoint.answer = () => Effect.delay(Effect.succeed(grant("next")), "5 seconds")
        yield* TestClock.adjust("3539 seconds")
        assert.strictEqual(atOnce(auth), "Bearer t1")
        yield* turn
        assert.strictEqual(endpoint.requests.length, 1, "not before the skew")
        yield* TestClock.adjust("1 second")
        for (let i = 0; i < 100; i++) assert.strictEqual(atOnce(auth), "Bearer t1")
        yield* turn
        assert.strictEqual(endpoint.requests.length, 2)
        yield* TestClock.adjust("5 seconds")
        assert.strictEqual(atOnce(auth), "Bearer next")
        assert.strictEqual(endpoint.requests.length, 2)
      })
    )

    it.effect("nothing is asked while nobody calls", () =>
      Effect.gen(function* () {
        const { auth, endpoint } = yield* make()
        yield* ask(auth)
        yield* TestClock.adjust("1 day")
        assert.strictEqual(endpoint.requests.length, 1)
      })
    )

    it.effect("an expired token is not used: the caller waits for the next", () =>
      Effect.gen(function* () {
        const { auth } = yield* make()
        yield* ask(auth)
        yield* TestClock.adjust("3600 seconds")
        assert.isTrue(Effect.isEffect(auth.authorize(request)))
        assert.strictEqual(yield* ask(auth), "Bearer t2")
      })
    )

    it.effect("the skew is at most half of the life, so that a short token is used at all", () =>
      Effect.gen(function* () {
        const { auth, endpoint } = yield* make()
        endpoint.answer = (_, number) => Effect.succeed(grant(`t${number}`, 10))
        yield* ask(auth)
        yield* TestClock.adjust("4999 millis")
        assert.strictEqual(atOnce(auth), "Bearer t1")
        yield* turn
        assert.strictEqual(endpoint.requests.length, 1)
        yield* TestClock.adjust("1 millis")
        assert.strictEqual(atOnce(auth), "Bearer t1")
        yield* turn
        assert.strictEqual(endpoint.requests.length, 2)
      })
    )

    it.effect("the life of a token begins when it was asked for, not when it came", () =>
      Effect.gen(function* () {
        const { auth, endpoint } = yield* make({ skew: 0 })
        endpoint.answer = (_, number) => Effect.delay(Effect.succeed(grant(`t${number}`, 10)), "4 seconds")
        const caller = yield* start(ask(auth))
        yield* TestClock.adjust("4 seconds")
        yield* Fiber.join(caller)
        yield* TestClock.adjust("5999 millis")
        assert.strictEqual(atOnce(auth), "Bearer t1")
        yield* TestClock.adjust("1 millis")
        assert.isTrue(Effect.isEffect(auth.authorize(request)))
      })
    )

    it.effect("a refresh that fails leaves the old token in use until its end, and is tried again after a pause", () =>
      Effect.gen(function* () {
        const { auth, endpoint } = yield* make()
        yield* ask(auth)
        endpoint.answer = () => down
        yield* TestClock.adjust("3550 seconds")
        for (let i = 0; i < 10; i++) {
          assert.strictEqual(atOnce(auth), "Bearer t1")
          yield* turn
        }
        assert.strictEqual(endpoint.requests.length, 2)
        yield* TestClock.adjust("1 second")
        assert.strictEqual(atOnce(auth), "Bearer t1")
        yield* turn
        assert.strictEqual(endpoint.requests.length, 3)
      })
    )

    it.effect("a token without an end is used until it is refused", () =>
      Effect.gen(function* () {
        const { auth, endpoint } = yield* make()
        endpoint.answer = () => Effect.succeed(json({ access_token: "t", token_type: "bearer" }))
        yield* ask(auth)
        yield* TestClock.adjust("1000 days")
        assert.strictEqual(atOnce(auth), "Bearer t")
      })
    )
  })

  describe("a failure", () => {
    it.effect("fails all who wait, with one request, each with its own request in the error", () =>
      Effect.gen(function* () {
        const { auth, endpoint } = yield* make()
        endpoint.answer = () => Effect.delay(down, "1 second")
        const callers = yield* start(
          Effect.all(
            Array.from({ length: 100 }, (_, i) =>
              Effect.flip(ask(auth, HttpClientRequest.get(`https://api.test/${i}`)))
            ),
            { concurrency: 100 }
          )
        )
        yield* TestClock.adjust("1 second")
        const errors = yield* Fiber.join(callers)
        assert.isTrue(errors.every((error) => error._tag === "AuthError"))
        assert.strictEqual(errors[7]?.request.url, "https://api.test/7")
        assert.strictEqual(endpoint.requests.length, 1)
      })
    )

    it.effect("is not kept as a success: the next caller after the pause asks again, and gets its token", () =>
      Effect.gen(function* () {
        const { auth, endpoint } = yield* make()
        endpoint.answer = (_, number) => (number === 1 ? down : Effect.succeed(grant("late")))
        yield* Effect.flip(ask(auth))
        yield* TestClock.adjust("1 second")
        assert.strictEqual(yield* ask(auth), "Bearer late")
      })
    )

    it.effect(
      "a dead endpoint is not hammered: within the pause callers fail at once, and the pause doubles to 30 s",
      () =>
        Effect.gen(function* () {
          const { auth, endpoint } = yield* make()
          endpoint.answer = () => down
          yield* Effect.flip(ask(auth))
          for (let i = 0; i < 1_000; i++) yield* Effect.flip(ask(auth))
          assert.strictEqual(endpoint.requests.length, 1)
          assert.include((yield* Effect.flip(ask(auth))).reason, "it will be asked again in 1000 ms")
          for (const [count, pause] of [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000].entries()) {
            yield* TestClock.adjust(pause - 1)
            yield* Effect.flip(ask(auth))
            assert.strictEqual(endpoint.requests.length, count + 1)
            yield* TestClock.adjust(1)
            yield* Effect.flip(ask(auth))
            assert.strictEqual(endpoint.requests.length, count + 2)
          }
        })
    )

    it.effect("a success begins the pauses anew", () =>
      Effect.gen(function* () {
        const { auth, endpoint } = yield* make()
        endpoint.answer = (_, number) => (number === 3 ? Effect.succeed(grant("t", 10)) : down)
        yield* Effect.flip(ask(auth))
        yield* TestClock.adjust("1 second")
        yield* Effect.flip(ask(auth))
        yield* TestClock.adjust("2 seconds")
        yield* ask(auth)
        yield* TestClock.adjust("10 seconds")
        yield* Effect.flip(ask(auth))
        assert.include((yield* Effect.flip(ask(auth))).reason, "again in 1000 ms")
      })
    )

    it.effect("`Retry-After` makes the pause longer, up to 30 s, and no retry comes before it", () =>
      Effect.gen(function* () {
        const { auth, endpoint } = yield* make({ maxRetries: 5 })
        endpoint.answer = () => Effect.succeed(json({}, 503, { "retry-after": "3600" }))
        yield* Effect.flip(ask(auth))
        assert.strictEqual(endpoint.requests.length, 1)
        assert.include((yield* Effect.flip(ask(auth))).reason, "again in 30000 ms")
      })
    )

    it.effect("a client that dies fails the callers, and does not leave them waiting", () =>
      Effect.gen(function* () {
        const { auth, endpoint } = yield* make()
        const defect = new Error("boom")
        endpoint.answer = () => Effect.die(defect)
        const error = yield* Effect.flip(ask(auth))
        assert.include(error.reason, "the client for token requests died")
        assert.strictEqual(error.cause, defect)
      })
    )
  })

  describe("a token that was refused", () => {
    it.effect("is dropped; the next caller gets another", () =>
      Effect.gen(function* () {
        const { auth } = yield* make()
        yield* ask(auth)
        assert.strictEqual(auth.rejected?.(carrying("t1")), true)
        assert.strictEqual(yield* ask(auth), "Bearer t2")
      })
    )

    it.effect("a late 401 for an older token does not drop the newer one, but a re-send makes sense", () =>
      Effect.gen(function* () {
        const { auth, endpoint } = yield* make()
        yield* ask(auth)
        auth.rejected?.(carrying("t1"))
        yield* ask(auth)
        for (let i = 0; i < 1_000; i++) assert.strictEqual(auth.rejected?.(carrying("t1")), true)
        assert.strictEqual(atOnce(auth), "Bearer t2")
        assert.strictEqual(endpoint.requests.length, 2)
      })
    )

    it.effect("a thousand 401s at once make one token request", () =>
      Effect.gen(function* () {
        const { auth, endpoint } = yield* make()
        yield* ask(auth)
        const again = Effect.suspend(() => {
          assert.strictEqual(auth.rejected?.(carrying("t1")), true)
          return ask(auth)
        })
        const tokens = yield* Effect.all(
          Array.from({ length: 1_000 }, () => again),
          { concurrency: 1_000 }
        )
        assert.deepStrictEqual([...new Set(tokens)], ["Bearer t2"])
        assert.strictEqual(endpoint.requests.length, 2)
      })
    )

    it.effect("credentials that are not ours drop nothing, and are not sent again", () =>
      Effect.gen(function* () {
        const { auth } = yield* make()
        yield* ask(auth)
        assert.strictEqual(auth.rejected?.(carrying("own")), false)
        assert.strictEqual(auth.rejected?.(request), false)
        assert.strictEqual(atOnce(auth), "Bearer t1")
      })
    )

    it.effect("a server that refuses every token costs the endpoint ten requests, then one a second", () =>
      Effect.gen(function* () {
        const { auth, endpoint } = yield* make()
        const refuse = Effect.map(ask(auth), (header) =>
          auth.rejected?.(HttpClientRequest.setHeader(request, "authorization", header ?? ""))
        )
        for (let i = 0; i < 100; i++) yield* refuse
        assert.strictEqual(endpoint.requests.length, 11)
        assert.strictEqual(yield* refuse, false)
        yield* TestClock.adjust("1 second")
        assert.strictEqual(yield* refuse, true)
        assert.strictEqual(yield* refuse, false)
        assert.strictEqual(endpoint.requests.length, 12)
      })
    )
  })

  describe("its scope", () => {
    it.effect("interrupts the token request when it ends; who waits fails, and who comes later, too", () =>
      Effect.gen(function* () {
        const endpoint = new TokenEndpoint()
        endpoint.answer = () => Effect.never
        const scope = yield* Scope.make()
        const auth = yield* Scope.provide(Auth.oauth2With(endpoint.client, options), scope)
        const caller = yield* start(Effect.flip(ask(auth)))
        yield* Scope.close(scope, Exit.void)
        assert.include((yield* Fiber.join(caller)).reason, "scope")
        assert.strictEqual(endpoint.interrupted.length, 1)
        assert.include((yield* Effect.flip(ask(auth))).reason, "scope")
        yield* TestClock.adjust("1 hour")
        assert.include((yield* Effect.flip(ask(auth))).reason, "scope")
        assert.strictEqual(endpoint.requests.length, 1)
      })
    )

    it.effect("a good token outlives it until its end, without a new request", () =>
      Effect.gen(function* () {
        const endpoint = new TokenEndpoint()
        const scope = yield* Scope.make()
        const auth = yield* Scope.provide(Auth.oauth2With(endpoint.client, options), scope)
        yield* ask(auth)
        yield* Scope.close(scope, Exit.void)
        yield* TestClock.adjust("3590 seconds")
        assert.strictEqual(atOnce(auth), "Bearer t1")
        yield* turn
        assert.strictEqual(endpoint.requests.length, 1)
      })
    )

    it.effect("a token request belongs to no caller's span, nor to that of the construction", () =>
      Effect.gen(function* () {
        const parents: Array<unknown> = []
        const endpoint = new TokenEndpoint()
        endpoint.answer = () =>
          Effect.contextWith((services: Context.Context<never>) => {
            parents.push(Option.getOrUndefined(Context.getOption(services, Tracer.ParentSpan)))
            return Effect.succeed(grant("t"))
          })
        const auth = yield* Effect.withSpan(Auth.oauth2With(endpoint.client, options), "construction")
        yield* Effect.withSpan(ask(auth), "caller")
        assert.deepStrictEqual(parents, [undefined])
      })
    )
  })
})
