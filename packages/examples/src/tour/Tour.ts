/**
 * The tour: its acts, one after the other.
 */
import { type Connector } from "@millrace/core/client/Connector"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import { type Act, type Outcome } from "./acts/Act.ts"
import { breaker } from "./acts/Breaker.ts"
import { death } from "./acts/Death.ts"
import { join } from "./acts/Join.ts"
import { limit } from "./acts/Limit.ts"
import { retries } from "./acts/Retries.ts"
import { spread } from "./acts/Spread.ts"
import { token } from "./acts/Token.ts"
import { type ListenError } from "./Loopback.ts"
import { type Claim } from "./Report.ts"

export const acts: ReadonlyArray<Act> = [spread, death, join, retries, limit, breaker, token]

export interface Played {
  readonly act: Act
  readonly outcome: Outcome
  readonly millis: number
}

/** Plays all acts; `opening` and `closing` are called around each. */
export const play = (show: {
  readonly opening: (act: Act, number: number) => void
  readonly closing: (played: Played) => void
}): Effect.Effect<ReadonlyArray<Played>, ListenError, Connector> =>
  Effect.forEach(acts, (act, index) =>
    Effect.gen(function* () {
      show.opening(act, index + 1)
      const begun = yield* Clock.currentTimeMillis
      const outcome = yield* Effect.scoped(act.play)
      const played = { act, outcome, millis: (yield* Clock.currentTimeMillis) - begun }
      show.closing(played)
      return played
    })
  )

export const broken = (all: ReadonlyArray<Played>): ReadonlyArray<Claim> =>
  all.flatMap(({ outcome }) => outcome.claims.filter((claim) => !claim.holds))

/** What `--json` prints. */
export const toJson = (all: ReadonlyArray<Played>) => ({
  tour: "millrace",
  ok: broken(all).length === 0,
  millis: all.reduce((sum, { millis }) => sum + millis, 0),
  acts: all.map(({ act, millis, outcome }) => ({
    key: act.key,
    title: act.title,
    ok: outcome.claims.every((claim) => claim.holds),
    millis,
    claims: outcome.claims,
    figures: outcome.figures
  }))
})
