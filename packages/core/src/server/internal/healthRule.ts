/**
 * How a server stands after its answers: the rule alone, without requests and time.
 *
 * ```
 *            good, the first one or `rise` in a row
 *   Warn ◄──────────────────────────────────────────► OK
 *    │ ▲              slow, or bad
 *    │ │ slow, and `rise` in a row
 *    │ └───────────┐
 *    │ `fall` bad  │      `rise` good in a row
 *    └───────────► KO ────────────────────────► OK
 * ```
 */
import type { Monitor } from "../ServerConfig.ts"

export type Verdict = "OK" | "Warn" | "KO"

/** A slow answer is an answer: it counts for `rise`, and never for `fall`. */
export type Answer = "good" | "slow" | "bad"

export interface Standing {
  readonly verdict: Verdict
  /** Answers in a row, good or slow. */
  readonly rises: number
  /** Bad ones in a row. */
  readonly falls: number
}

/** Before the first answer. */
export const unproven: Standing = { verdict: "Warn", rises: 0, falls: 0 }

export const after = (
  { falls, rises, verdict }: Standing,
  answer: Answer,
  { fall, rise }: Pick<Monitor, "rise" | "fall">
): Standing => {
  if (answer === "bad") {
    const down = verdict === "KO" || falls + 1 >= fall
    return { verdict: down ? "KO" : "Warn", rises: 0, falls: falls + 1 }
  }
  const first = rises === 0 && falls === 0
  const enough = first || rises + 1 >= rise
  const stands = verdict === "KO" && !enough ? "KO" : answer === "good" && (enough || verdict === "OK") ? "OK" : "Warn"
  return { verdict: stands, rises: rises + 1, falls: 0 }
}
