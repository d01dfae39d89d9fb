import { assert, describe, it } from "@effect/vitest"
import { Cause, Deferred, Effect, Exit, Fiber, References, Schema } from "effect"
import { HttpClient, HttpClientRequest, HttpClientResponse } from "effect/http"
import * as Connector from "../../src/client/Connector.ts"
import * as Pool from "../../src/client/Pool.ts"
import { PoolClosed, type PoolError } from "../../src/model/PoolError.ts"
import { through, type Attempt, type Gate, type Outcome } from "../../src/policy/Gate.ts"
import { start } from "../fixtures/pools.ts"
import { Wire } from "../fixtures/wire.ts"

/** Writes down what it sees; an attempt waits on the `waits` one after the other, then it is admitted. */
const gate = (
  log: Array<string>,
  name: string,
  ...waits: ReadonlyArray<Effect.Effect<void, PoolError>>
): Required<Gate<PoolError>> => {
  const asked = new WeakMap<Attempt, number>()
  return {
    admit: (attempt: Attempt) => {
      const times = asked.get(attempt) ?? 0
      asked.set(attempt, times + 1)
      log.push(times < waits.length ? `${name} is asked` : `${name} admits ${attempt.request.url}`)
      return waits[times]
    },
    settle: (_attempt: Attempt, outcome: Outcome) => {
      log.push(`${name} settles ${outcome._tag}`)
    },
    abandon: () => {
      log.push(`${name} is abandoned`)
    }
  }
}

/** The same, except that one of its methods writes and then throws. */
const throwing = (
  log: Array<string>,
  name: string,
  method: keyof Gate<PoolError>,
  defect: unknown,
  ...waits: ReadonlyArray<Effect.Effect<void, PoolError>>
): Gate<PoolError> => {
  const normal = gate(log, name, ...waits)
  const dies =
    <Args extends ReadonlyArray<unknown>>(f: (...args: Args) => unknown) =>
    (...args: Args): never => {
      f(...args)
      throw defect
    }
  return { ...normal, [method]: dies(normal[method] as (...args: ReadonlyArray<unknown>) => unknown) }
}

const refusal = new PoolClosed({ request: { method: "GET", url: "/" }, attempts: 0 })

const connector = Connector.layerFunction((request) =>
  request.url.endsWith("/never")
    ? Effect.never
    : Effect.succeed(HttpClientResponse.fromWeb(request, new Response("ok")))
)

const poolWith = (gates: ReadonlyArray<Gate<PoolError>>) =>
  Effect.provide(Pool.make({ baseUrl: "http://test.local", size: 1 }, gates), connector)

const request = HttpClientRequest.get("/x")
const response = HttpClientResponse.fromWeb(request, new Response("ok"))

/** Admits as many at a time as it has permits, in the order they came, and hands a permit that gets free over. */
class Turnstile implements Gate<never> {
  readonly permits: number
  free: number
  /** Those that were admitted, and have not ended. */
  readonly inside = new Set<Attempt>()
  /** Those that wait, in their order, and how each is woken. */
  readonly line = new Map<Attempt, () => void>()
  /** Those that a permit is kept for until they come back. */
  readonly kept = new Set<Attempt>()
  readonly arrivals: Array<Attempt> = []
  /** Whom a permit was given to or kept for, one after the other, by their number in the order of arrival. */
  readonly given: Array<number> = []
  passedOn = 0
  private readonly detour: Effect.Effect<void>

  /** The `detour` is what a waiter still does between being woken and coming back. */
  constructor(permits: number, detour: Effect.Effect<void>) {
    this.permits = permits
    this.free = permits
    this.detour = detour
  }

  admit(attempt: Attempt): Effect.Effect<void> | undefined {
    if (!this.arrivals.includes(attempt)) this.arrivals.push(attempt)
    if (!this.kept.delete(attempt)) {
      if (this.free === 0) {
        this.line.set(attempt, () => {})
        return Effect.andThen(this.woken(attempt), this.detour)
      }
      this.free--
      this.given.push(this.arrivals.indexOf(attempt))
    }
    this.inside.add(attempt)
    return undefined
  }

  settle(attempt: Attempt): void {
    assert.isTrue(this.inside.delete(attempt), "settled once, after it was admitted")
    this.pass()
  }

  abandon(attempt: Attempt): void {
    if (this.line.delete(attempt)) return
    assert.isTrue(this.kept.delete(attempt), "abandoned once, while it waited")
    this.passedOn++
    this.pass()
  }

  private woken(attempt: Attempt): Effect.Effect<void> {
    return Effect.callback((resume) => {
      if (this.line.has(attempt)) this.line.set(attempt, () => resume(Effect.void))
      else resume(Effect.void)
    })
  }

  private pass(): void {
    const first = this.line.entries().next()
    if (first.done === true) {
      this.free++
      return
    }
    const [attempt, wake] = first.value
    this.line.delete(attempt)
    this.kept.add(attempt)
    this.given.push(this.arrivals.indexOf(attempt))
    wake()
  }

  /** What holds at every moment. */
  check(): void {
    assert.strictEqual(this.free + this.inside.size + this.kept.size, this.permits)
    if (this.free > 0) assert.strictEqual(this.line.size, 0, "nobody waits for what is free")
    assert.deepStrictEqual(
      this.given,
      this.given.toSorted((a, b) => a - b),
      "first come, first served"
    )
  }

  checkEmpty(): void {
    this.check()
    assert.strictEqual(this.free, this.permits)
    assert.strictEqual(this.line.size, 0)
  }
}

/** An attempt through that gate, which lasts until it is told to end. */
const enter = Effect.fnUntraced(function* (turnstile: Turnstile, budget: number) {
  const end = yield* Deferred.make<HttpClientResponse.HttpClientResponse>()
  const fiber = yield* through([turnstile], request, () => Deferred.await(end)).pipe(
    Effect.provideService(References.MaxOpsBeforeYield, budget),
    Effect.forkChild({ startImmediately: true })
  )
  return { fiber, end: Deferred.succeed(end, response) }
})

const yields = Effect.fnUntraced(function* (times: number) {
  for (let i = 0; i < times; i++) yield* Effect.yieldNow
})

describe("Gate", () => {
  it.effect("an attempt passes the gates in order and settles them in reverse", () =>
    Effect.gen(function* () {
      const log: Array<string> = []
      const pool = yield* poolWith([gate(log, "a"), gate(log, "b"), gate(log, "c")])
      const response = yield* pool.client.get("/x")
      assert.strictEqual(yield* response.text, "ok")
      assert.deepStrictEqual(log, [
        "a admits /x",
        "b admits /x",
        "c admits /x",
        "c settles Response",
        "b settles Response",
        "a settles Response"
      ])
    })
  )

  it.effect("a gate is asked again after each wait, until it admits", () =>
    Effect.gen(function* () {
      const log: Array<string> = []
      const pool = yield* poolWith([gate(log, "a"), gate(log, "b", Effect.void, Effect.yieldNow), gate(log, "c")])
      yield* pool.client.get("/x")
      assert.deepStrictEqual(log, [
        "a admits /x",
        "b is asked",
        "b is asked",
        "b admits /x",
        "c admits /x",
        "c settles Response",
        "b settles Response",
        "a settles Response"
      ])
    })
  )

  it.effect("each run of the effect is an attempt of its own", () =>
    Effect.gen(function* () {
      const log: Array<string> = []
      const run = through([gate(log, "a", Effect.yieldNow)], request, () => Effect.succeed(response))
      yield* Effect.all([run, run], { concurrency: 2 })
      assert.deepStrictEqual(log, [
        "a is asked",
        "a is asked",
        "a admits /x",
        "a settles Response",
        "a admits /x",
        "a settles Response"
      ])
    })
  )

  it.effect("a gate that refuses ends the attempt; it is not settled but abandoned, and no slot was asked for", () =>
    Effect.gen(function* () {
      const log: Array<string> = []
      const b = gate(log, "b", Effect.yieldNow, Effect.fail(refusal))
      const pool = yield* poolWith([gate(log, "a"), b, gate(log, "c")])
      assert.strictEqual(yield* Effect.flip(pool.client.get("/x")), refusal)
      assert.deepStrictEqual(log, ["a admits /x", "b is asked", "b is asked", "b is abandoned", "a settles Failure"])
      assert.strictEqual((yield* pool.stats).requests, 0)
    })
  )

  it.effect("a gate that keeps nothing for those who wait need not hear of them", () =>
    Effect.gen(function* () {
      const log: Array<string> = []
      const { admit, settle } = gate(log, "b", Effect.fail(refusal))
      assert.strictEqual(
        yield* Effect.flip(through([{ admit, settle }], request, () => Effect.succeed(response))),
        refusal
      )
      assert.deepStrictEqual(log, ["b is asked"])
    })
  )

  it.effect("an attempt interrupted while it waits in a gate leaves this one and those before it", () =>
    Effect.gen(function* () {
      const log: Array<string> = []
      const pool = yield* poolWith([gate(log, "a"), gate(log, "b", Effect.never), gate(log, "c")])
      const fiber = yield* Effect.forkChild(pool.client.get("/x"), { startImmediately: true })
      yield* Fiber.interrupt(fiber)
      assert.deepStrictEqual(log, ["a admits /x", "b is asked", "b is abandoned", "a settles Interrupted"])
    })
  )

  it.effect("an attempt interrupted under way settles all, and gives its slot back", () =>
    Effect.gen(function* () {
      const log: Array<string> = []
      const pool = yield* poolWith([gate(log, "a"), gate(log, "b")])
      const fiber = yield* Effect.forkChild(pool.client.get("/never"), { startImmediately: true })
      yield* Fiber.interrupt(fiber)
      assert.isTrue(Exit.hasInterrupts(yield* Fiber.await(fiber)))
      assert.deepStrictEqual(log.slice(2), ["b settles Interrupted", "a settles Interrupted"])
      assert.strictEqual((yield* pool.client.get("/x")).status, 200)
    })
  )

  it.effect("a client that was transformed passes them as well", () =>
    Effect.gen(function* () {
      const log: Array<string> = []
      const pool = yield* poolWith([gate(log, "a")])
      const client = HttpClient.filterStatusOk(pool.client)
      yield* client.get("/x")
      assert.deepStrictEqual(log, ["a admits http://test.local/x", "a settles Response"])
    })
  )

  describe("a gate that keeps a permit for the first who waits", () => {
    // The holder leaves, and one of the three is interrupted a little later, at another operation in each run.
    it.live("loses none, whenever an attempt is interrupted", () =>
      Effect.gen(function* () {
        let passedOn = 0
        for (let victim = 0; victim < 3; victim++) {
          for (let budget = 3; budget < 13; budget++) {
            for (let moment = 0; moment < 12; moment++) {
              const turnstile = new Turnstile(1, Effect.andThen(Effect.void, Effect.void))
              const attempts = [
                yield* enter(turnstile, budget),
                yield* enter(turnstile, budget),
                yield* enter(turnstile, budget)
              ]
              const interrupter = yield* Effect.forkChild(
                Effect.andThen(yields(moment), Fiber.interrupt(attempts[victim]!.fiber)),
                { startImmediately: true }
              )
              for (const { end } of attempts) yield* end
              yield* Fiber.join(interrupter)
              for (const { fiber } of attempts) yield* Fiber.await(fiber)
              turnstile.checkEmpty()
              passedOn += turnstile.passedOn
            }
          }
        }
        assert.isAbove(passedOn, 0, "some were interrupted between the end of their wait and their admission")
      })
    )

    // What each number does: its rest by 4, and how long everybody else runs after that.
    it.effect.prop(
      "loses none and lets nobody jump the line, whatever comes, ends and is interrupted in whatever order",
      [
        Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 3 })),
        Schema.Int.check(Schema.isBetween({ minimum: 3, maximum: 20 })),
        Schema.Array(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 999 }))).check(Schema.isMaxLength(60))
      ],
      ([permits, budget, steps]) =>
        Effect.gen(function* () {
          const turnstile = new Turnstile(permits, Effect.andThen(Effect.yieldNow, Effect.yieldNow))
          const attempts: Array<Effect.Success<ReturnType<typeof enter>>> = []
          const interrupted = new Set<Fiber.Fiber<unknown>>()
          for (const step of steps) {
            const chosen = attempts[step % Math.max(attempts.length, 1)]
            if (chosen === undefined || step % 4 < 2) {
              attempts.push(yield* enter(turnstile, budget))
            } else if (step % 4 === 2) {
              yield* chosen.end
            } else {
              interrupted.add(chosen.fiber)
              chosen.fiber.interruptUnsafe()
            }
            turnstile.check()
            yield* yields(Math.floor(step / 4) % 5)
            turnstile.check()
          }
          for (const { end } of attempts) yield* end
          for (const { fiber } of attempts) {
            const exit = yield* Fiber.await(fiber)
            if (!interrupted.has(fiber)) assert.isTrue(Exit.isSuccess(exit))
          }
          turnstile.checkEmpty()
        }),
      { arbitrary: { runs: 300 } }
    )
  })

  describe("a defect", () => {
    const first = new Error("first")
    const second = new Error("second")

    const defectsOf = <A, E>(exit: Exit.Exit<A, E>): ReadonlyArray<unknown> =>
      Exit.isFailure(exit) ? exit.cause.reasons.filter(Cause.isDieReason).map((reason) => reason.defect) : []

    it.effect("of one that settles keeps no other from it; the first is what the attempt dies of", () =>
      Effect.gen(function* () {
        const log: Array<string> = []
        const gates = [
          gate(log, "a"),
          throwing(log, "b", "settle", second),
          throwing(log, "c", "settle", first),
          gate(log, "d")
        ]
        const exit = yield* Effect.exit(through(gates, request, () => Effect.succeed(response)))
        assert.deepStrictEqual(defectsOf(exit), [first])
        assert.deepStrictEqual(log.slice(4), [
          "d settles Response",
          "c settles Response",
          "b settles Response",
          "a settles Response"
        ])
      })
    )

    it.effect("of one that is abandoned keeps no other from being settled", () =>
      Effect.gen(function* () {
        const log: Array<string> = []
        const gates = [gate(log, "a"), throwing(log, "b", "abandon", first, Effect.fail(refusal))]
        const exit = yield* Effect.exit(through(gates, request, () => Effect.succeed(response)))
        assert.include(defectsOf(exit), first)
        assert.deepStrictEqual(log, ["a admits /x", "b is asked", "b is abandoned", "a settles Failure"])
      })
    )

    it.effect("of one that is asked is a Defect to the others, and it is abandoned", () =>
      Effect.gen(function* () {
        const log: Array<string> = []
        const outcomes: Array<Outcome> = []
        const a: Gate<PoolError> = {
          admit: () => undefined,
          settle: (_attempt, outcome) => {
            outcomes.push(outcome)
          }
        }
        const gates = [a, throwing(log, "b", "admit", undefined), gate(log, "c")]
        const exit = yield* Effect.exit(through(gates, request, () => Effect.succeed(response)))
        assert.deepStrictEqual(defectsOf(exit), [undefined])
        assert.deepStrictEqual(outcomes, [{ _tag: "Defect", defect: undefined }])
        assert.deepStrictEqual(log, ["b admits /x", "b is abandoned"])
      })
    )

    it.effect("that a wait or the request dies of is a Defect to all", () =>
      Effect.gen(function* () {
        const log: Array<string> = []
        const waiting = [gate(log, "a"), gate(log, "b", Effect.die(first))]
        assert.deepStrictEqual(defectsOf(yield* Effect.exit(through(waiting, request, () => Effect.never))), [first])
        assert.deepStrictEqual(log.splice(0), ["a admits /x", "b is asked", "b is abandoned", "a settles Defect"])
        const exit = yield* Effect.exit(through([gate(log, "a")], request, () => Effect.die(second)))
        assert.deepStrictEqual(defectsOf(exit), [second])
        assert.deepStrictEqual(log, ["a admits /x", "a settles Defect"])
      })
    )

    it.effect("that comes with an interruption is a Defect", () =>
      Effect.gen(function* () {
        const log: Array<string> = []
        const send = Effect.onInterrupt(Effect.never, () => Effect.die(first))
        const fiber = yield* start(through([gate(log, "a")], request, () => send))
        yield* Fiber.interrupt(fiber)
        assert.deepStrictEqual(log, ["a admits /x", "a settles Defect"])
      })
    )

    for (const { name, options } of [
      { name: "the response", options: {} },
      { name: "the response that a failure holds", options: { failOnStatus: true } }
    ]) {
      it.effect(`of one that settles does not leave ${name} in its slot`, () =>
        Effect.gen(function* () {
          let sound = false
          const gates: ReadonlyArray<Gate<PoolError>> = [
            {
              admit: () => undefined,
              settle: () => {
                if (!sound) throw first
              }
            }
          ]
          const wire = new Wire((sent) => sent.write().head(503).data("the beginning"))
          const pool = yield* Effect.provide(
            Pool.make({ baseUrl: "http://test.local", size: 1, drainTimeout: 0, ...options }, gates),
            wire.layer
          )
          const exit = yield* Effect.exit(pool.client.get("/"))
          assert.include(defectsOf(exit), first)
          assert.isTrue(wire.at(0).aborted)
          sound = true
          wire.onSend = (sent) => sent.answer("ok")
          assert.strictEqual(yield* Effect.flatMap(pool.client.get("/"), (_) => _.text), "ok")
        })
      )
    }

    it.effect("of one that settles is what the attempt dies of, even if the response cannot be discarded", () =>
      Effect.gen(function* () {
        const broken = Object.defineProperty(HttpClientResponse.fromWeb(request, new Response("ok")), "stream", {
          get: () => {
            throw second
          }
        })
        const gates = [throwing([], "a", "settle", first)]
        const exit = yield* Effect.exit(through(gates, request, () => Effect.succeed(broken)))
        assert.deepStrictEqual(defectsOf(exit), [first])
      })
    )
  })
})
