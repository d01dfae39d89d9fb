/** Work that only takes its time, in the place of real I/O: 3 to 5 minutes, and one in ten fails. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Random from "effect/Random"
import { Work, WorkFailed } from "./Work.ts"

export interface Options {
  /** The shortest run. Default: 3 minutes. */
  readonly min?: Duration.Input | undefined
  /** The longest run; one below `min` means `min`. Default: 5 minutes. */
  readonly max?: Duration.Input | undefined
  /** The share that fails, from 0 to 1. Default: 0.1. */
  readonly failures?: number | undefined
}

/** Its length and its end are drawn from Effect's `Random` when it begins, so that a seed makes them known. */
const make = (options: Options = {}): Work["Service"] => {
  const { failures = 0.1 } = options
  const min = Duration.toMillis(options.min ?? "3 minutes")
  const max = Math.max(min, Duration.toMillis(options.max ?? "5 minutes"))
  const failed = new WorkFailed({ reason: `The stub fails in ${failures * 100} % of all cases: this was one` })
  return Work.of({
    run: () =>
      Effect.gen(function* () {
        const time = yield* Random.nextBetween(min, max)
        const fails = (yield* Random.next) < failures
        const result = yield* Random.nextIntBetween(0, 9)
        yield* Effect.sleep(time)
        if (fails) return yield* failed
        return `io work result = ${result}`
      })
  })
}

export const layer = (options?: Options): Layer.Layer<Work> => Layer.succeed(Work, make(options))
