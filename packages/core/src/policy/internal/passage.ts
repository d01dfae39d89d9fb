/**
 * The way of one attempt through its gates, whoever runs it: what was asked, what admitted, who must still be told.
 */
import * as Cause from "effect/Cause"
import type * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as HttpClientResponse from "effect/http/HttpClientResponse"
import { hasProperty } from "effect/Predicate"
import * as Result from "effect/Result"
import { type RequestInfo, requestInfo } from "../../model/PoolError.ts"
import type { Attempt, Gate, Outcome } from "../Gate.ts"

const none = HttpClientRequest.empty

export class Passage<out E> implements Attempt {
  request: HttpClientRequest.HttpClientRequest
  readonly number: number
  sent = false
  mark: unknown = undefined
  takenAt: number | undefined = undefined
  private readonly gates: ReadonlyArray<Gate<E>>
  /** What stands for the request in errors when there is none. */
  private readonly name: string | undefined
  // The gate that was asked and has not admitted is the one between these two, if any.
  private asked = 0
  private admitted = 0

  constructor(
    gates: ReadonlyArray<Gate<E>>,
    request: HttpClientRequest.HttpClientRequest | undefined,
    number: number,
    name?: string
  ) {
    this.gates = gates
    this.request = request ?? none
    this.number = number
    this.name = name
  }

  get info(): RequestInfo {
    const { method, url, urlParams } = this.request
    return this.name === undefined ? requestInfo(method, url, urlParams) : { method: "guard", url: this.name }
  }

  /** `undefined` when all gates have admitted it; otherwise what to wait for before it is called again. */
  enter(): Effect.Effect<void, E> | undefined {
    const { gates } = this
    while (this.admitted < gates.length) {
      this.asked = this.admitted + 1
      const wait = gates[this.admitted]!.admit(this)
      if (wait !== undefined) return wait
      this.admitted = this.asked
    }
    this.sent = true
    return undefined
  }

  /** Tells every gate that was asked, in reverse. Gives the first thing that one of them threw. */
  leave(outcome: Outcome): { readonly value: unknown } | undefined {
    const { admitted, gates } = this
    let thrown: { readonly value: unknown } | undefined
    for (let i = this.asked - 1; i >= 0; i--) {
      try {
        if (i < admitted) gates[i]!.settle(this, outcome)
        else gates[i]!.abandon?.(this)
      } catch (value) {
        thrown ??= { value }
      }
    }
    // Whoever calls it again has nobody to tell.
    this.asked = 0
    return thrown
  }
}

/** As everywhere in Effect, a defect outweighs a failure, and that an interruption. */
export const outcomeOf = (exit: Exit.Exit<unknown, unknown>): Outcome => {
  if (Exit.isSuccess(exit)) {
    return isResponse(exit.value) ? { _tag: "Response", response: exit.value } : { _tag: "Success", value: exit.value }
  }
  const defect = Cause.findDefect(exit.cause)
  if (Result.isSuccess(defect)) return { _tag: "Defect", defect: defect.success }
  const error = Cause.findError(exit.cause)
  return Result.isSuccess(error) ? { _tag: "Failure", error: error.success } : { _tag: "Interrupted" }
}

export const isResponse = (u: unknown): u is HttpClientResponse.HttpClientResponse =>
  hasProperty(u, HttpClientResponse.TypeId)
