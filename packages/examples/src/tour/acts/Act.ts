/**
 * An act of the tour: what it claims, what it plays, what came out. The tour is a list of these.
 */
import { type Connector } from "@millrace/core/client/Connector"
import type * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { type Client, type Contender } from "../contenders/Contender.ts"
import { type Counts } from "../Counts.ts"
import { type ListenError } from "../Loopback.ts"
import { type Claim, type Table } from "../Report.ts"
import type * as Stage from "../Stage.ts"

export interface Act {
  readonly key: string
  readonly title: string
  /** What happens, and what is claimed of it. */
  readonly claimed: string
  readonly play: Effect.Effect<Outcome, ListenError, Connector | Scope.Scope>
}

export interface Outcome {
  readonly tables: ReadonlyArray<Table>
  readonly claims: ReadonlyArray<Claim>
  /** What a reader should know to read the tables rightly. */
  readonly note?: string | undefined
  /** The same figures for `--json`. */
  readonly figures: unknown
}

/** Milliseconds that a request of the tour may take: far more than any of them needs. */
const timeout = 5000

export const slots = 8

export const onStage = <C extends Client>(
  contender: Contender<C>,
  stage: Stage.Stage
): Effect.Effect<C, never, Connector | Scope.Scope> => contender.open({ url: stage.url, timeout })

/** `2 ECONNRESET, 1 UND_ERR_SOCKET`, or `0`. */
export const showErrors = (errors: Counts): string =>
  Object.entries(errors)
    .map(([kind, n]) => `${n} ${kind}`)
    .join(", ") || "0"

export const percent = (share: number): string => `${Math.round(100 * share)} %`
