/**
 * What the tour compares: HTTP clients that are given the same address and the same requests.
 */
import { type Connector } from "@millrace/core/client/Connector"
import * as Data from "effect/Data"
import type * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"

/** A kind of client. `open` makes one; it ends with its scope. */
export interface Contender<out C extends Client = Client> {
  readonly key: string
  /** For a table's first column. */
  readonly label: string
  readonly open: (target: Target) => Effect.Effect<C, never, Scope.Scope | Connector>
}

export interface Target {
  readonly url: URL
  /** Milliseconds that one request may take. */
  readonly timeout: number
}

export interface Client {
  /** One GET of the target, its body read to the end. */
  readonly get: Effect.Effect<Answer, RequestFailed>
  /** What the client itself has counted. */
  readonly facts: Effect.Effect<Facts>
}

export interface Answer {
  readonly status: number
  readonly header: (name: string) => string | undefined
}

interface Facts {
  readonly connections: number
  /** Requests that were sent again because a kept-alive connection had died. */
  readonly resent: number
}

/** A request that got no complete answer; `kind` is short and the same for the same cause. */
export class RequestFailed extends Data.TaggedError("RequestFailed")<{
  readonly kind: string
  readonly cause: unknown
}> {}
