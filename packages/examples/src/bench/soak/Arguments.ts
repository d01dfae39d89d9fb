/** The command line of the soak. */
import { parseArgs } from "node:util"

export type Command =
  | { readonly _tag: "Help" }
  | { readonly _tag: "Wrong"; readonly problems: ReadonlyArray<string> }
  | {
      readonly _tag: "Soak"
      readonly json: boolean
      readonly minutes: number
      readonly callers: number
      readonly seed: number
      readonly size: number
    }

export const usage = `The soak: traffic and failures, for as long as you like.

  npm run soak                      10 minutes, 512 callers
  npm run soak -- --minutes 0.5     a short one

  --minutes N    how long there is load (10)
  --callers N    requests at a time (512)
  --slots N      slots of the pool (64)
  --seed N       of everything that is left to chance; printed, so that a run can be repeated
  --json         print the result as one JSON object
  --help         print this

Exit status: 0 nothing was lost, 1 something was, 2 wrong arguments.
`

export const parse = (args: ReadonlyArray<string>): Command => {
  let values
  try {
    values = parseArgs({
      args: [...args],
      options: {
        json: { type: "boolean", default: false },
        help: { type: "boolean", short: "h", default: false },
        minutes: { type: "string", default: "10" },
        callers: { type: "string", default: "512" },
        slots: { type: "string", default: "64" },
        seed: { type: "string", default: String(Math.floor(Math.random() * 1_000_000)) }
      }
    }).values
  } catch (error) {
    return { _tag: "Wrong", problems: [(error as Error).message] }
  }
  if (values.help) return { _tag: "Help" }
  const minutes = Number(values.minutes)
  const callers = Number(values.callers)
  const size = Number(values.slots)
  const seed = Number(values.seed)
  const problems: Array<string> = []
  const whole = (name: string, value: number, min: number, max: number) => {
    if (!Number.isInteger(value) || value < min || value > max) {
      problems.push(`--${name} must be a whole number from ${min} to ${max}`)
    }
  }
  if (!(minutes > 0 && minutes <= 24 * 60)) problems.push("--minutes must be a number above 0, at most 1440")
  whole("callers", callers, 1, 10_000)
  whole("slots", size, 1, 1000)
  whole("seed", seed, 0, 2 ** 32 - 1)
  return problems.length > 0
    ? { _tag: "Wrong", problems }
    : { _tag: "Soak", json: values.json, minutes, callers, seed, size }
}
