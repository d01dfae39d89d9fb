import { assert, describe, it } from "@effect/vitest"
import { Cause, Duration, Effect, Exit, Schedule, Stream } from "effect"
import { HttpBody, HttpClientRequest, HttpClientResponse } from "effect/http"
import { ManualTimers } from "../../fixtures/time.ts"
import { tagged } from "../../fixtures/pools.ts"
import { AuthError, ConnectError, RateLimitExceeded, RetryExhausted } from "../../../src/model/PoolError.ts"
import { Passage } from "../../../src/policy/internal/passage.ts"
import { type Given, resolve } from "../../../src/policy/internal/retryOptions.ts"
import { result } from "../../../src/policy/internal/retryRule.ts"
import type { Attempt, Outcome } from "../../../src/policy/Policy.ts"
import * as Retry from "../../../src/policy/Retry.ts"

const now = Date.UTC(2026, 10, 21, 12, 0, 0)
const get = HttpClientRequest.get("http://test.local/")
const at = { request: { method: "GET", url: "http://test.local/" }, attempts: 1 }

const attempt = (request = get, number = 1): Attempt => {
  const passage = new Passage([], request, number)
  passage.enter()
  return passage
}

const answered = (status: number, headers: Record<string, string> = {}): Outcome => ({
  _tag: "Response",
  response: HttpClientResponse.fromWeb(get, new Response(null, { status, headers }))
})
const failed = (error: unknown): Outcome => ({ _tag: "Failure", error })
const broken = new ConnectError({ ...at, phase: "response", sent: true })

/** Without jitter, unless the test asks for it. */
const make = (options: Partial<Given> = {}, random = () => 0.5) =>
  Retry.makeUnsafe(resolve({ jitter: "none", ...options }), { timers: new ManualTimers(), random, epoch: () => now })

/** The decisions on the same outcome, until there is no further attempt. */
const decisions = (rule: Retry.Rule, outcome: Outcome, remaining = Infinity) =>
  Effect.gen(function* () {
    const state = rule.state()
    const out: Array<Retry.Decision> = []
    for (let number = 1; out.at(-1)?._tag === "Again" || number === 1; number++) {
      out.push(yield* rule.next(state, attempt(get, number), outcome, remaining))
    }
    return out
  })

const first = (rule: Retry.Rule, outcome: Outcome, remaining = Infinity) =>
  rule.next(rule.state(), attempt(), outcome, remaining)

const delays = (all: ReadonlyArray<Retry.Decision>) => all.flatMap((_) => (_._tag === "Again" ? [_.delay] : []))

describe("isFinal", () => {
  it("is true for every response whose status is not retryable, success, interruption and defect", () => {
    const rule = make()
    for (const outcome of [
      answered(200),
      answered(404),
      answered(501),
      { _tag: "Success", value: 1 },
      { _tag: "Interrupted" },
      { _tag: "Defect", defect: "bug" }
    ] satisfies ReadonlyArray<Outcome>) {
      assert.isTrue(rule.isFinal(attempt(), outcome), outcome._tag)
    }
  })

  it("is false for statuses and failures that are worth another attempt", () => {
    const rule = make()
    for (const status of [408, 429, 500, 502, 503, 504]) assert.isFalse(rule.isFinal(attempt(), answered(status)))
    assert.isFalse(rule.isFinal(attempt(), failed(broken)))
  })

  it("never throws: a predicate that does is a defect of the call", async () => {
    const rule = make({
      while: () => {
        throw new Error("bug")
      }
    })
    assert.isFalse(rule.isFinal(attempt(), failed(broken)))
    const exit = await Effect.runPromiseExit(first(rule, failed(broken)))
    assert.isTrue(Exit.isFailure(exit) && Cause.hasDies(exit.cause))
  })
})

describe("next", () => {
  it.effect("asks again: what is final stays final", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* first(make(), answered(200)), { _tag: "Final" })
      assert.deepStrictEqual(yield* first(make(), failed(new AuthError({ ...at, reason: "no" }))), { _tag: "Final" })
    })
  )

  it.effect("backs off exponentially, up to maxDelay, at most maxRetries times", () =>
    Effect.gen(function* () {
      const all = yield* decisions(make({ maxRetries: 7 }), answered(503))
      assert.deepStrictEqual(delays(all), [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000])
      assert.deepStrictEqual(all.at(-1), { _tag: "Exhausted", reason: "maxRetries", retries: 7 })
    })
  )

  it.effect("by default strays by 10 %", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(
        delays(
          yield* decisions(
            make({ jitter: "proportional" }, () => 0),
            answered(503)
          )
        ),
        [900, 1_800, 3_600]
      )
    })
  )

  it.effect("keeps the wait before for `decorrelated`, without what the server asked for", () =>
    Effect.gen(function* () {
      const rule = make({ jitter: "decorrelated" }, () => 1)
      assert.deepStrictEqual(delays(yield* decisions(rule, answered(503))), [3_000, 9_000, 27_000])
      assert.deepStrictEqual(
        delays(yield* decisions(rule, answered(503, { "retry-after": "20" }))),
        [20_000, 20_000, 27_000]
      )
    })
  )

  it.effect("keeps the state of a call to itself", () =>
    Effect.gen(function* () {
      const rule = make({ maxRetries: 1 })
      assert.lengthOf(yield* decisions(rule, answered(503)), 2)
      assert.lengthOf(yield* decisions(rule, answered(503)), 2)
    })
  )

  describe("Retry-After", () => {
    const wait = (value: string, options: Partial<Given> = {}) =>
      Effect.map(first(make(options), answered(503, { "retry-after": value })), (_) => tagged(_, "Again").delay)

    it.effect("of 0, negative, or in the past: the backoff alone", () =>
      Effect.gen(function* () {
        for (const value of ["0", "-5", "Sun, 06 Nov 1994 08:49:37 GMT"]) {
          assert.strictEqual(yield* wait(value), 1_000, value)
        }
      })
    )

    it.effect("in seconds or as any HTTP-date is a lower bound", () =>
      Effect.gen(function* () {
        assert.strictEqual(yield* wait("5"), 5_000)
        assert.strictEqual(yield* wait("Sat, 21 Nov 2026 12:00:05 GMT"), 5_000)
        assert.strictEqual(yield* wait("Saturday, 21-Nov-26 12:00:05 GMT"), 5_000)
        assert.strictEqual(yield* wait("Sat Nov 21 12:00:05 2026"), 5_000)
        assert.strictEqual(yield* wait("5", { initialDelay: 7_000 }), 7_000)
      })
    )

    it.effect("that is garbage is not there", () =>
      Effect.gen(function* () {
        for (const value of ["soon", "1.5", "2026-11-21T12:00:05Z", "5, 6"]) {
          assert.strictEqual(yield* wait(value), 1_000, value)
        }
      })
    )

    it.effect("ten years ahead is capped by maxRetryAfter", () =>
      Effect.gen(function* () {
        assert.strictEqual(yield* wait("315360000"), 60_000)
        assert.strictEqual(yield* wait("Sat, 21 Nov 2036 12:00:00 GMT"), 60_000)
        assert.strictEqual(yield* wait("9".repeat(400), { maxRetryAfter: 5_000 }), 5_000)
        assert.strictEqual(yield* wait("60", { maxRetryAfter: 0 }), 1_000)
      })
    )

    it.effect("goes over maxDelay, which is the cap of the backoff only", () =>
      Effect.gen(function* () {
        assert.strictEqual(yield* wait("45"), 45_000)
      })
    )

    it.effect("is a lower bound of a schedule, too", () =>
      Effect.gen(function* () {
        assert.strictEqual(yield* wait("5", { schedule: Schedule.spaced("2 seconds") }), 5_000)
      })
    )
  })

  it.effect("heeds the caller's own limit if `while` retries it", () =>
    Effect.gen(function* () {
      const limited = failed(new RateLimitExceeded({ ...at, retryAfter: Duration.seconds(9) }))
      assert.strictEqual(tagged(yield* first(make({ while: () => true }), limited), "Again").delay, 9_000)
    })
  )

  it.effect("sends again whatever no gate has let through, if `while` says so: nobody has touched it", () =>
    Effect.gen(function* () {
      const request = HttpClientRequest.post("http://test.local/").pipe(
        HttpClientRequest.setBody(HttpBody.stream(Stream.empty))
      )
      const refused = new Passage([], request, 1)
      const limited = failed(new RateLimitExceeded({ ...at, retryAfter: Duration.zero }))
      const rule = make({ while: () => true })
      assert.strictEqual((yield* rule.next(rule.state(), refused, limited, Infinity))._tag, "Again")
      assert.strictEqual((yield* rule.next(rule.state(), attempt(request), limited, Infinity))._tag, "Final")
    })
  )

  describe("a deadline", () => {
    it.effect("that the wait would pass ends the call at once", () =>
      Effect.gen(function* () {
        const deadline: Retry.Decision = { _tag: "Exhausted", reason: "deadline", retries: 0 }
        assert.deepStrictEqual(yield* first(make(), answered(503), 999), deadline)
        assert.deepStrictEqual(yield* first(make(), answered(503, { "retry-after": "30" }), 29_999), deadline)
      })
    )

    it.effect("at the very end of the wait leaves no time for an attempt", () =>
      Effect.gen(function* () {
        assert.deepStrictEqual((yield* first(make(), answered(503), 1_000))._tag, "Exhausted")
        assert.deepStrictEqual(yield* first(make(), answered(503), 1_001), { _tag: "Again", delay: 1_000 })
      })
    )

    it.effect("that has passed ends it also when there is nothing to wait for", () =>
      Effect.gen(function* () {
        assert.strictEqual((yield* first(make({ initialDelay: 0 }), answered(503), -1))._tag, "Exhausted")
      })
    )

    it.effect("spends nothing of the budget", () =>
      Effect.gen(function* () {
        const rule = make({ budget: { ratio: 0, minPerSecond: 0.1, window: 10_000 } })
        for (let i = 0; i < 5; i++) assert.strictEqual((yield* first(rule, answered(503), 10))._tag, "Exhausted")
        assert.strictEqual((yield* first(rule, answered(503)))._tag, "Again")
        assert.deepStrictEqual(yield* first(rule, answered(503)), { _tag: "Budget" })
      })
    )
  })

  describe("a schedule", () => {
    it.effect("says the wait instead of the backoff, up to its end", () =>
      Effect.gen(function* () {
        const schedule = Schedule.spaced("7 seconds").pipe(Schedule.upTo({ times: 2 }))
        const all = yield* decisions(make({ maxRetries: 10, schedule }), answered(503))
        assert.deepStrictEqual(delays(all), [7_000, 7_000])
        assert.deepStrictEqual(all.at(-1), { _tag: "Exhausted", reason: "schedule", retries: 2 })
      })
    )

    it.effect("does not go over maxRetries", () =>
      Effect.gen(function* () {
        const all = yield* decisions(make({ maxRetries: 2, schedule: Schedule.spaced("7 seconds") }), answered(503))
        assert.deepStrictEqual(all.at(-1), { _tag: "Exhausted", reason: "maxRetries", retries: 2 })
      })
    )

    it.effect("sees what the attempts ended with", () =>
      Effect.gen(function* () {
        const seen: Array<string> = []
        const schedule = Schedule.forever.pipe(
          Schedule.setInputType<Outcome>(),
          Schedule.tap(({ input }) => Effect.sync(() => seen.push(input._tag)))
        )
        yield* decisions(make({ maxRetries: 2, schedule }), failed(broken))
        assert.deepStrictEqual(seen, ["Failure", "Failure"])
      })
    )
  })
})

describe("result", () => {
  const exit = Exit.fail(broken)
  const exhausted = (reason: "maxRetries" | "deadline" | "schedule", retries: number) =>
    ({ _tag: "Exhausted", reason, retries }) as const

  it("is what the attempt ended with when it is final, and when the budget is spent", () => {
    assert.strictEqual(result({ _tag: "Final" }, exit, failed(broken), 2), exit)
    assert.strictEqual(result({ _tag: "Budget" }, exit, failed(broken), 2), exit)
  })

  it("is RetryExhausted for a failure after a retry, with its reason and the attempts", () => {
    for (const reason of ["maxRetries", "deadline", "schedule"] as const) {
      const ended = result(exhausted(reason, 3), exit, failed(broken), 4)
      assert.deepStrictEqual(
        ended,
        Exit.fail(new RetryExhausted({ request: broken.request, attempts: 4, last: broken, reason }))
      )
    }
  })

  it("is the failure itself when there was no retry; but the deadline says so", () => {
    assert.strictEqual(result(exhausted("maxRetries", 0), exit, failed(broken), 1), exit)
    assert.strictEqual(result(exhausted("schedule", 0), exit, failed(broken), 1), exit)
    assert.notStrictEqual(result(exhausted("deadline", 0), exit, failed(broken), 1), exit)
  })

  it("is the response itself, whatever was exhausted", () => {
    const outcome = answered(503)
    const done = Exit.succeed(outcome)
    assert.strictEqual(result(exhausted("deadline", 3), done, outcome, 4), done)
  })

  it("is an error that is no PoolError as it is", () => {
    const foreign = Exit.fail("no idea")
    assert.strictEqual(result(exhausted("maxRetries", 3), foreign, failed("no idea"), 4), foreign)
  })
})
