import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Random, References } from "effect"
import { HttpClientRequest, HttpClientResponse } from "effect/http"
import { AuthError } from "../../../src/model/PoolError.ts"
import type { Auth } from "../../../src/policy/Auth.ts"
import { authGate } from "../../../src/policy/internal/authGate.ts"
import { Passage } from "../../../src/policy/internal/passage.ts"
import { type Attempt, type Gate, through } from "../../../src/policy/Policy.ts"

const request = HttpClientRequest.get("https://api.test/x")
const sign = HttpClientRequest.setHeader("authorization", "mine")
const send = (sent: HttpClientRequest.HttpClientRequest) =>
  Effect.succeed(HttpClientResponse.fromWeb(sent, new Response(sent.headers["authorization"] ?? "none")))

const refusal = (attempts = 0) =>
  new AuthError({ request: { method: "GET", url: "/" }, attempts, reason: "no token", cause: "why" })

/** How many attempts a gate remembers. */
const remembered = (gate: Gate<AuthError>): number => {
  const ready: unknown = Reflect.get(gate, "ready")
  if (!(ready instanceof Set)) throw new Error("the gate has changed")
  return ready.size
}

describe("authGate", () => {
  it("what is answered at once is admitted at once, with its credentials", () => {
    const gate = authGate({ authorize: sign })
    const attempt = new Passage([gate], request, 1)
    assert.strictEqual(gate.admit(attempt), undefined)
    assert.strictEqual(attempt.request.headers["authorization"], "mine")
    assert.strictEqual(remembered(gate), 0)
  })

  it.effect("what must be waited for is asked once for an attempt, and sent with what it gave", () =>
    Effect.gen(function* () {
      let asked = 0
      const auth: Auth = { authorize: (sent) => (asked++, Effect.as(Effect.yieldNow, sign(sent))) }
      const gate = authGate(auth)
      assert.strictEqual(yield* (yield* through([gate], request, send)).text, "mine")
      assert.strictEqual(asked, 1)
      assert.strictEqual(remembered(gate), 0)
    })
  )

  it.effect("each attempt asks anew", () =>
    Effect.gen(function* () {
      let asked = 0
      const gate = authGate({ authorize: (sent) => HttpClientRequest.setHeader(sent, "authorization", `${++asked}`) })
      yield* through([gate], request, send)
      assert.strictEqual(yield* (yield* through([gate], request, send, 2)).text, "2")
    })
  )

  it.effect("credentials come before all gates that follow, and while they are waited for none of those is asked", () =>
    Effect.gen(function* () {
      const token = yield* Deferred.make<void>()
      const seen: Array<string | undefined> = []
      const next: Gate<never> = {
        admit: (attempt: Attempt) => void seen.push(attempt.request.headers["authorization"]),
        settle: () => {}
      }
      const gate = authGate({ authorize: (sent) => Effect.as(Deferred.await(token), sign(sent)) })
      const fiber = yield* Effect.forkChild(through([gate, next], request, send), { startImmediately: true })
      assert.deepStrictEqual(seen, [])
      yield* Deferred.succeed(token, undefined)
      yield* Fiber.join(fiber)
      assert.deepStrictEqual(seen, ["mine"])
    })
  )

  it.effect("a refusal counts the attempts that were sent before it, and keeps its reason and cause", () =>
    Effect.gen(function* () {
      const gate = authGate({ authorize: () => Effect.fail(refusal()) })
      assert.deepStrictEqual(yield* Effect.flip(through([gate], request, send, 1)), refusal(0))
      assert.deepStrictEqual(yield* Effect.flip(through([gate], request, send, 3)), refusal(2))
      assert.strictEqual(remembered(gate), 0)
    })
  )

  it.effect("an attempt that has its credentials and is given up before it comes back is forgotten", () =>
    Effect.gen(function* () {
      const gate = authGate({ authorize: (sent) => Effect.succeed(sign(sent)) })
      const attempt = new Passage([gate], request, 1)
      yield* gate.admit(attempt) ?? Effect.die("it does not wait")
      assert.strictEqual(remembered(gate), 1)
      gate.abandon?.(attempt)
      assert.strictEqual(remembered(gate), 0)
    })
  )

  it.effect("interruption at any moment leaves nothing behind", () =>
    Effect.gen(function* () {
      let ended = 0
      for (let budget = 3; budget < 40; budget++) {
        for (let moment = 0; moment < 12; moment++) {
          const gate = authGate({ authorize: (sent) => Effect.as(Effect.yieldNow, sign(sent)) })
          const fiber = yield* through([gate], request, send).pipe(
            Effect.provideService(References.MaxOpsBeforeYield, budget),
            Effect.forkChild({ startImmediately: true })
          )
          const turns = yield* Random.nextIntBetween(0, moment + 1)
          for (let i = 0; i < turns; i++) yield* Effect.yieldNow
          yield* Fiber.interrupt(fiber)
          if (Exit.isSuccess(yield* Fiber.await(fiber))) ended++
          assert.strictEqual(remembered(gate), 0)
        }
      }
      assert.isAbove(ended, 0, "some were not interrupted")
    })
  )
})
