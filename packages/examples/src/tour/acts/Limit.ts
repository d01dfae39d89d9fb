/**
 * An upstream that allows so many requests a second.
 */
import * as Effect from "effect/Effect"
import { type Policies, millrace } from "../contenders/Millrace.ts"
import { type Counts, total } from "../Counts.ts"
import { say } from "../Progress.ts"
import * as Stage from "../Stage.ts"
import { send } from "../Traffic.ts"
import * as Quota from "../upstreams/Quota.ts"
import { type Act, onStage, percent, showErrors, slots } from "./Act.ts"

/**
 * The upstream counts requests when they arrive, the client when they leave; a machine that stalls in between moves some
 * of them into a fuller window. So the client keeps a little below: no window of 1 s holds more than `limit` + `burst`,
 * and those that were on their way.
 */
const plan = { allowance: 200, window: 1000, requests: 360, callers: 32, limit: 190, burst: 4, enough: 0.9 } as const

interface Row {
  readonly key: string
  readonly label: string
  readonly answered: number
  readonly statuses: Counts
  readonly errors: Counts
  readonly upstream: Quota.Seen
  /** What was allowed of what could have been, from the first request to the last. */
  readonly used: number
}

const measure = Effect.fnUntraced(function* (key: string, label: string, policies: Policies) {
  yield* say(`limit: ${plan.requests} requests ${label}`)
  const quota = Quota.make(plan.allowance, plan.window)
  const stage = yield* Stage.make({ reply: quota.reply })
  const client = yield* onStage(millrace({ slots, policies }), stage)
  const { answered, errors, statuses } = yield* send(client, plan)
  const upstream = quota.seen()
  const possible = plan.allowance * Math.max(1, upstream.elapsed / plan.window)
  const row: Row = { key, label, answered, statuses, errors, upstream, used: upstream.allowed / possible }
  return row
}, Effect.scoped)

export const limit: Act = {
  key: "limit",
  title: "A limit that is not ours",
  claimed:
    `The upstream allows ${plan.allowance} requests in any second, all instances together, and answers 429 beyond. With ` +
    "`rateLimit` callers wait for their turn instead, and little of what is allowed is left unused.",
  play: Effect.gen(function* () {
    const without = yield* measure("without", "without rateLimit", {})
    const limited = yield* measure("with", "with rateLimit", {
      rateLimit: { limit: plan.limit, interval: plan.window, burst: plan.burst }
    })
    const refused = limited.upstream.refused
    return {
      tables: [
        {
          title: `${plan.requests} requests from ${plan.callers} callers`,
          columns: ["Millrace", "200", "429", "errors", "fullest second", "seconds", "used"],
          rows: [without, limited].map(({ errors, label, statuses, upstream, used }) => [
            label,
            statuses[200] ?? 0,
            statuses[429] ?? 0,
            showErrors(errors),
            upstream.fullest,
            (upstream.elapsed / 1000).toFixed(2),
            percent(used)
          ])
        }
      ],
      note:
        `fullest second: requests that the upstream got within ${plan.window} ms, as it counted them itself. used: of its ` +
        `allowance. The limit is ${plan.limit} a second: a little below, as it counts when requests leave.`,
      claims: [
        {
          text: "Without a limit the same traffic gets many 429.",
          holds: without.upstream.refused >= plan.requests / 4,
          seen: `${without.upstream.refused} of ${plan.requests}`
        },
        {
          text: "Millrace with rateLimit: not one 429, and every request answered.",
          holds: refused === 0 && limited.statuses[200] === plan.requests && total(limited.errors) === 0,
          seen: `${refused} 429, ${limited.upstream.fullest} requests in the fullest second`
        },
        {
          text: `It uses more than ${percent(plan.enough)} of the allowance.`,
          holds: limited.used > plan.enough,
          seen: percent(limited.used)
        }
      ],
      figures: { ...plan, clients: [without, limited] }
    }
  })
}
