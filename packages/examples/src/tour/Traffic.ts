/**
 * Sends requests through a client and counts what came back.
 */
import * as Effect from "effect/Effect"
import { type Answer, type Client, type RequestFailed } from "./contenders/Contender.ts"
import { type Counts, tally } from "./Counts.ts"

export interface Plan {
  readonly requests: number
  /** How many callers send at the same time. */
  readonly callers: number
  /** Sees the number of requests that have ended, and how this one did. `false` ends the traffic. */
  readonly onEnd?: ((ended: number, outcome: Answer | RequestFailed) => boolean | void) | undefined
}

export interface Traffic {
  /** Requests that have ended, one way or the other. */
  readonly requests: number
  readonly answered: number
  /** Answers by status. */
  readonly statuses: Counts
  /** Answers of each instance, as callers saw them. */
  readonly perInstance: Counts
  /** Failed requests by kind. */
  readonly errors: Counts
}

export const instanceHeader = "x-instance"

export const send = (client: Client, plan: Plan, instances: ReadonlyArray<string> = []): Effect.Effect<Traffic> =>
  sendEach(() => client.get, plan, instances)

/** The same for requests that differ; they are numbered from 0. */
export const sendEach = (
  request: (number: number) => Effect.Effect<Answer, RequestFailed>,
  plan: Plan,
  instances: ReadonlyArray<string> = []
): Effect.Effect<Traffic> =>
  Effect.suspend(() => {
    const perInstance = tally(instances)
    const statuses = tally()
    const errors = tally()
    let started = 0
    let ended = 0
    let answered = 0
    let stopped = false
    const finish = (outcome: Answer | RequestFailed): void => {
      ended++
      if (plan.onEnd?.(ended, outcome) === false) stopped = true
    }
    const end = Effect.match({
      onSuccess: (answer: Answer) => {
        answered++
        statuses.add(String(answer.status))
        perInstance.add(answer.header(instanceHeader) ?? "unnamed")
        finish(answer)
      },
      onFailure: (error: RequestFailed) => {
        errors.add(error.kind)
        finish(error)
      }
    })
    const caller = Effect.whileLoop({
      while: () => !stopped && started < plan.requests,
      body: () => end(request(started++)),
      step: () => undefined
    })
    return Effect.map(
      Effect.forEach(Array.from({ length: plan.callers }), () => caller, { concurrency: "unbounded", discard: true }),
      () => ({
        requests: ended,
        answered,
        statuses: statuses.counts(),
        perInstance: perInstance.counts(),
        errors: errors.counts()
      })
    )
  })
