/** The command line of the benchmark. Everything that is wrong with it is said at once. */
import { parseArgs } from "node:util"
import type { Plan } from "./Measure.ts"

export type Command =
  | { readonly _tag: "Help" }
  | { readonly _tag: "Wrong"; readonly problems: ReadonlyArray<string> }
  | {
      readonly _tag: "Bench"
      readonly json: boolean
      readonly only: RegExp
      /** The page that keeps what is printed. */
      readonly save: string | undefined
      /** A quick run shows that everything works; its figures are too rough to judge. */
      readonly judged: boolean
      readonly plan: Plan
    }

/** Many short turns rather than few long ones: what disturbs the machine for seconds spoils fewer of them. */
const standard: Plan = {
  rounds: 15,
  seconds: 0.5,
  warmUp: 1.5,
  leadIn: 0.1,
  memorySamples: 3,
  streamBytes: 2 ** 30,
  isolated: false
}

const quick: Plan = {
  rounds: 1,
  seconds: 0.2,
  warmUp: 0.3,
  leadIn: 0.05,
  memorySamples: 1,
  streamBytes: 2 ** 26,
  isolated: false
}

export const usage = `The benchmark: Millrace, bare and with its policies, beside its peers, on loopback; its servers and its proxy beside
others, of which nginx and HAProxy take part where they are installed.

  npm run bench                     everything (about 9 minutes)
  npm run bench -- --only get-64    one scenario
  npm run bench -- --only server    servers: requests/s, and memory of idle ones
  npm run bench -- --only proxy     proxies: requests/s, what they add to a request, streams

  --only PATTERN    the scenarios and rows whose name matches (a regular expression)
  --rounds N        turns of each contender in a scenario (${standard.rounds}; at least 3)
  --seconds S       length of a turn (${standard.seconds})
  --isolated        each contender in a process of its own, not all in one
  --quick           one short round, not judged
  --json            print the result as one JSON object
  --save FILE       keep the tables in a page of Markdown
  --help            print this

Exit status: 0 all floors are met, 1 one is not, 2 wrong arguments.
`

export const parse = (args: ReadonlyArray<string>): Command => {
  let values
  try {
    values = parseArgs({
      args: [...args],
      options: {
        json: { type: "boolean", default: false },
        quick: { type: "boolean", default: false },
        isolated: { type: "boolean", default: false },
        help: { type: "boolean", short: "h", default: false },
        rounds: { type: "string" },
        seconds: { type: "string" },
        save: { type: "string" },
        only: { type: "string", default: "" }
      }
    }).values
  } catch (error) {
    return { _tag: "Wrong", problems: [(error as Error).message] }
  }
  if (values.help) return { _tag: "Help" }

  const problems: Array<string> = []
  const rounds = values.rounds === undefined ? standard.rounds : Number(values.rounds)
  if (!Number.isInteger(rounds) || rounds < 3 || rounds > 100)
    problems.push("--rounds must be a whole number from 3 to 100")
  const seconds = values.seconds === undefined ? standard.seconds : Number(values.seconds)
  if (!(seconds >= 0.1 && seconds <= 60)) problems.push("--seconds must be a number from 0.1 to 60")
  let only = /(?:)/
  try {
    only = new RegExp(values.only, "i")
  } catch (error) {
    problems.push(`--only: ${(error as Error).message}`)
  }
  if (values.save === "") problems.push("--save must name a file")
  if (problems.length > 0) return { _tag: "Wrong", problems }
  const { isolated, save } = values
  const plan = values.quick ? { ...quick, isolated } : { ...standard, rounds, seconds, isolated }
  return { _tag: "Bench", json: values.json, only, save, judged: !values.quick, plan }
}
