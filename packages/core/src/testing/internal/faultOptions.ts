/** The options of fault injection, each once, and which fault a request meets. */
import type * as Duration from "effect/Duration"
import * as Field from "../../model/internal/field.ts"
import * as Group from "../../model/internal/groupField.ts"

const rate = (description: string, byDefault = 0) => Field.number(description, { min: 0, max: 1, default: byDefault })

const noTime = { default: 0, min: 0, finite: true } satisfies { default: Duration.Input; min: number; finite: boolean }

export const fields = {
  latency: Group.group("Answers that come late.", {
    rate: rate("Share of the answers.", 1),
    min: Field.duration("The shortest delay.", noTime),
    max: Field.duration("The longest delay.", { ...noTime, default: "1 second" })
  }),
  refuse: rate("Share of the requests whose connection is refused; nothing is sent."),
  silence: rate("Share of the requests that are sent and never answered."),
  reset: rate("Share of the requests whose connection breaks when the answer would begin."),
  cut: rate("Share of the requests whose connection breaks in the middle of the body."),
  status: Group.group("Answers that do not come from the upstream; nothing is sent to it.", {
    rate: rate("Share of the requests.", 1),
    status: Field.integer("The status.", { min: 200, max: 599, default: 503 })
  })
}

export const withSeed = {
  seed: Field.integer("Equal seeds give equal faults.", { min: 0, max: Number.MAX_SAFE_INTEGER, default: 1 }),
  ...fields
}

/** After reading: durations in milliseconds. */
export interface Given {
  latency: Partial<{ rate: number; min: number; max: number }>
  refuse: number
  silence: number
  reset: number
  cut: number
  status: Partial<{ rate: number; status: number }>
}

export interface Resolved {
  readonly latency: { readonly rate: number; readonly min: number; readonly max: number }
  /** In the order in which one roll decides between them. */
  readonly fates: ReadonlyArray<readonly [fate: Fate, rate: number]>
  readonly status: number
}

type Fate = "refuse" | "silence" | "reset" | "cut" | "status"

export const resolve = ({ cut, latency, refuse, reset, silence, status }: Partial<Given>): Resolved => ({
  latency: {
    rate: latency === undefined ? 0 : (latency.rate ?? 1),
    min: latency?.min ?? 0,
    max: latency?.max ?? Math.max(1000, latency?.min ?? 0)
  },
  fates: [
    ["refuse", refuse ?? 0],
    ["silence", silence ?? 0],
    ["reset", reset ?? 0],
    ["cut", cut ?? 0],
    ["status", status === undefined ? 0 : (status.rate ?? 1)]
  ],
  status: status?.status ?? 503
})

export const rules = (given: Partial<Given>): ReadonlyArray<Field.Problem> => {
  const { fates, latency } = resolve(given)
  const problems: Array<Field.Problem> = []
  const sum = fates.reduce((total, [, share]) => total + share, 0)
  if (sum > 1 + 1e-9) {
    const names = fates.map(([fate]) => fate).join(", ")
    problems.push({
      path: "refuse",
      message: `one request meets one fault: the rates of ${names} must add up to 1 or less`
    })
  }
  if (latency.min > latency.max) problems.push({ path: "latency.min", message: "must not be above `latency.max`" })
  return problems
}

/** What happens to one request. */
export interface Fault {
  readonly fate: Fate | undefined
  readonly delay: number
  readonly status: number
}

/** Takes three numbers from `random`, whatever the rates: so one rate does not change whom another one meets. */
export const draw = ({ fates, latency, status }: Resolved, random: () => number): Fault => {
  const late = random() < latency.rate
  const delay = Math.round(latency.min + random() * (latency.max - latency.min))
  let roll = random()
  for (const [fate, share] of fates) {
    if (roll < share) return { fate, delay: late ? delay : 0, status }
    roll -= share
  }
  return { fate: undefined, delay: late ? delay : 0, status }
}
