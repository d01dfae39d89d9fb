/**
 * A new instance joins: how long until it gets its share.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import { type Contender } from "../contenders/Contender.ts"
import { millrace } from "../contenders/Millrace.ts"
import { roundRobinPool, singleConnection } from "../contenders/Undici.ts"
import { total } from "../Counts.ts"
import { say } from "../Progress.ts"
import * as Stage from "../Stage.ts"
import { instanceHeader, send } from "../Traffic.ts"
import { type Act, onStage, percent, slots } from "./Act.ts"

const newcomer = "yew"

/** Milliseconds. The bound is thrice the age: one for the connections to age, the rest for a slow machine. */
const plan = {
  maxConnectionAge: 500,
  bound: 1500,
  observe: 2000,
  /** Pause between two requests of the one caller. */
  pause: 2,
  warmUp: 2 * slots,
  /** The share is taken over this many requests: ten turns of the slots. */
  window: 10 * slots
} as const

const fairShare = 1 / (Stage.instances.length + 1)
const enough = fairShare / 2

interface Row {
  readonly key: string
  readonly label: string
  /** Milliseconds from joining until half a fair share was reached; `null` if it never was. */
  readonly reachedAfter: number | null
  /** The newcomer's share of the last window. */
  readonly share: number
  readonly requests: number
  readonly errors: number
  readonly connections: number
}

const contenders: ReadonlyArray<Contender> = [
  singleConnection,
  roundRobinPool({ connections: slots }),
  roundRobinPool({ connections: slots, clientTtl: plan.maxConnectionAge }),
  millrace({ slots, maxConnectionAge: plan.maxConnectionAge })
]

const observe = Effect.fnUntraced(function* (contender: Contender) {
  const stage = yield* Stage.make()
  const client = yield* onStage(contender, stage)
  yield* send(client, { requests: plan.warmUp, callers: 1 })
  const clock = yield* Clock.Clock
  yield* stage.join(newcomer)
  const joined = clock.currentTimeMillisUnsafe()
  const elapsed = () => clock.currentTimeMillisUnsafe() - joined

  const window: Array<boolean> = []
  let hits = 0
  let requests = 0
  let errors = 0
  let reachedAfter: number | null = null
  const see = (hit: boolean): void => {
    requests++
    window.push(hit)
    if (hit) hits++
    if (window.length > plan.window && window.shift() === true) hits--
    if (reachedAfter === null && hits / plan.window >= enough) reachedAfter = elapsed()
  }
  while (elapsed() < plan.observe) {
    const hit = yield* Effect.match(client.get, {
      onSuccess: (answer) => answer.header(instanceHeader) === newcomer,
      onFailure: () => {
        errors++
        return false
      }
    })
    see(hit)
    yield* Effect.sleep(plan.pause)
  }
  const row: Row = {
    key: contender.key,
    label: contender.label,
    reachedAfter,
    share: Math.round((100 * hits) / window.length) / 100,
    requests,
    errors,
    connections: total(stage.opened())
  }
  return row
}, Effect.scoped)

export const join: Act = {
  key: "join",
  title: "A new instance joins",
  claimed:
    "A fifth instance starts behind the balancer. Connections that live for ever never reach it. Millrace retires a " +
    `connection at \`maxConnectionAge\` (here ${plan.maxConnectionAge} ms, 10 min by default), between two requests, ` +
    "and the next one may lead to the newcomer.",
  play: Effect.gen(function* () {
    yield* say(`join: one caller for ${plan.observe} ms through every client, all at the same time`)
    const rows = yield* Effect.forEach(contenders, observe, { concurrency: "unbounded" })
    const ours = rows.find((row) => row.key === "millrace")!
    return {
      tables: [
        {
          title: `${plan.observe} ms of requests from one caller; a fair share is ${percent(fairShare)}`,
          columns: ["client", "reached after", "share", "requests", "errors", "connections"],
          rows: rows.map(({ connections, errors, label, reachedAfter, requests, share }) => [
            label,
            reachedAfter === null ? "never" : `${Math.round(reachedAfter)} ms`,
            percent(share),
            requests,
            errors,
            connections
          ])
        }
      ],
      note:
        `reached after: until ${percent(enough)} of the last ${plan.window} requests went to the newcomer. share: its share of ` +
        "the last of them. RoundRobinPool is shown with its defaults and with its own option for this, `clientTtl`.",
      claims: [
        {
          text: `Millrace: the newcomer has half a fair share within ${plan.bound} ms.`,
          holds: ours.reachedAfter !== null && ours.reachedAfter <= plan.bound,
          seen: ours.reachedAfter === null ? "never" : `after ${Math.round(ours.reachedAfter)} ms`
        },
        {
          text: "Millrace: no request fails because connections are retired.",
          holds: ours.errors === 0,
          seen: `${ours.errors} errors in ${ours.requests} requests, ${ours.connections} connections`
        }
      ],
      figures: { ...plan, newcomer, fairShare, contenders: rows }
    }
  })
}
