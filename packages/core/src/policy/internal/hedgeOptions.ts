/** The options of a hedge, each once: kind, default, meaning. */
import * as Field from "../../model/internal/field.ts"
import type { Problem } from "../../model/internal/field.ts"
import { windowSize } from "./latency.ts"

/** When only a `delay` is given, nothing is learned. */
const percentileByDefault = 0.95

export const fields = {
  delay: {
    ...Field.duration(
      "A fixed time after which the second attempt is sent; with `percentile`: only until enough latencies are known.",
      { default: "Infinity", finite: true }
    ),
    defaultText: "learned"
  },
  percentile: {
    ...Field.numberWithoutDefault(
      "The share of latencies, among the last 1024, after which the second attempt is sent.",
      { min: 0.5, max: 0.999 }
    ),
    defaultText: `${percentileByDefault}, or none with a \`delay\``
  },
  minDelay: Field.duration("The shortest delay that is learned.", { default: "10 millis", finite: true }),
  minSamples: Field.integer("Latencies that must be known before a percentile of them counts.", {
    min: 1,
    max: windowSize,
    default: 100
  }),
  maxRatio: Field.number("Second attempts, as a share of the requests that may be hedged.", {
    min: 0.0001,
    max: 1,
    default: 0.1
  })
}

/** In milliseconds. */
export interface Resolved {
  readonly delay: number | undefined
  /** `undefined`: the delay is fixed. */
  readonly percentile: number | undefined
  readonly minDelay: number
  readonly minSamples: number
  readonly maxRatio: number
}

/** As the fields read them: milliseconds. */
export type Given = { readonly [K in keyof Resolved]?: Resolved[K] | undefined }

export const resolve = (given: Given): Resolved => ({
  delay: given.delay,
  percentile: given.percentile ?? (given.delay === undefined ? percentileByDefault : undefined),
  minDelay: given.minDelay ?? fields.minDelay.default,
  minSamples: given.minSamples ?? fields.minSamples.default,
  maxRatio: given.maxRatio ?? fields.maxRatio.default
})

/** What no option can know alone. */
export const rules = (given: Given): ReadonlyArray<Problem> => {
  if (given.delay === undefined || given.percentile !== undefined) return []
  return (["minDelay", "minSamples"] as const)
    .filter((path) => given[path] !== undefined)
    .map((path) => ({ path, message: "means nothing with a fixed `delay`: give `percentile` too, or leave it out" }))
}
