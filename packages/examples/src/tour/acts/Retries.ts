/**
 * Faults that pass: some answers are 503, some connections break.
 */
import * as Effect from "effect/Effect"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import { type Policies, millrace } from "../contenders/Millrace.ts"
import { type Counts, sum } from "../Counts.ts"
import { say } from "../Progress.ts"
import * as Stage from "../Stage.ts"
import { sendEach } from "../Traffic.ts"
import * as Flaky from "../upstreams/Flaky.ts"
import { type Act, onStage, percent, slots } from "./Act.ts"

const plan = { callers: 64, maxRetries: 3, initialDelay: 10, maxDelay: 40 } as const

type Kind = (typeof kinds)[number]["key"]

const kinds = [
  { key: "get", label: "GET", calls: 300, request: HttpClientRequest.get },
  {
    key: "keyed",
    label: "POST with an idempotency-key",
    calls: 100,
    request: (path: string) => HttpClientRequest.post(path, { headers: { "idempotency-key": path } })
  },
  { key: "post", label: "POST", calls: 100, request: (path: string) => HttpClientRequest.post(path) },
  { key: "down", label: "GET of what is down", calls: 10, request: HttpClientRequest.get }
] as const

const downForEver: ReadonlyArray<Flaky.Fault> = Array.from({ length: 100 }, () => 503)

/** Of 100 calls 17 meet faults: 10 one answer, 5 two broken connections, 2 as many of both as `maxRetries` allows. */
const faultsOf = (path: string): ReadonlyArray<Flaky.Fault> => {
  const [, kind, number] = path.split("/")
  if (kind === "down") return downForEver
  const n = Number(number)
  if (n % 10 === 0) return [503]
  if (n % 20 === 5) return ["reset", "reset"]
  return n % 50 === 3 ? [503, "reset", 500] : []
}

interface Result {
  readonly calls: number
  /** Answers with 200, as callers saw them. */
  readonly ok: number
  readonly statuses: Counts
  readonly errors: Counts
  /** Requests that the instances got. */
  readonly sent: number
  /** Of the call that was sent most often. */
  readonly mostSent: number
}

const measure = Effect.fnUntraced(function* (policies: Policies) {
  const flaky = Flaky.make(faultsOf)
  const stage = yield* Stage.make({ reply: flaky.reply })
  const client = yield* onStage(millrace({ slots, policies }), stage)
  const results = yield* Effect.forEach(kinds, ({ calls, key, request }) =>
    Effect.gen(function* () {
      const { errors, statuses } = yield* sendEach((n) => client.send(request(`/${key}/${n}`)), {
        requests: calls,
        callers: plan.callers
      })
      const sent = flaky.sent(`/${key}/`)
      const result: Result = {
        calls,
        ok: statuses[200] ?? 0,
        statuses,
        errors,
        sent: sum(sent),
        mostSent: Math.max(...sent)
      }
      return [key, result] as const
    })
  )
  const { retries, staleRetries } = yield* client.pool.stats
  return { kinds: Object.fromEntries(results) as Record<Kind, Result>, retries, staleRetries }
}, Effect.scoped)

const extraLoad = ({ calls, sent }: Result): number => (sent - calls) / calls

export const retries: Act = {
  key: "retries",
  title: "Faults that pass",
  claimed:
    "Of 100 calls 17 meet an answer 5xx or a connection that breaks, some of them up to three times in a row. With " +
    "`retry` callers see nothing of it where sending again is safe; what must not be sent twice is not.",
  play: Effect.gen(function* () {
    yield* say("retries: the same faults without and with retry")
    const { initialDelay, maxDelay, maxRetries } = plan
    const without = yield* measure({})
    const retrying = yield* measure({ retry: { maxRetries, initialDelay, maxDelay } })
    const { down, get, keyed, post } = retrying.kinds
    return {
      tables: [
        {
          title: `Calls from ${plan.callers} callers; how many were answered with 200`,
          columns: ["Millrace", "calls", "without retry", "with retry", "sent", "extra load"],
          rows: kinds.map(({ key, label }) => {
            const result = retrying.kinds[key]
            return [label, result.calls, without.kinds[key].ok, result.ok, result.sent, percent(extraLoad(result))]
          })
        }
      ],
      note:
        `sent: requests that the instances got with retry, ${retrying.retries} of them retries and ${retrying.staleRetries} by the ` +
        "rule for kept-alive connections that die, which is outside of `maxRetries`.",
      claims: [
        {
          text: "Millrace with retry: where sending again is safe, callers see 200 only.",
          holds: get.ok === get.calls && keyed.ok === keyed.calls && without.kinds.get.ok < get.calls,
          seen: `${get.ok} of ${get.calls} GET, ${keyed.ok} of ${keyed.calls} POST with a key`
        },
        {
          text: "A POST without a key is never sent twice.",
          holds: post.mostSent === 1 && post.sent === post.calls && post.ok < post.calls,
          seen: `${post.calls} sent ${post.sent} times, ${post.calls - post.ok} failed`
        },
        {
          text: `\`maxRetries: ${maxRetries}\` is at most ${maxRetries + 1} attempts, and as many where all fail.`,
          holds:
            Math.max(get.mostSent, keyed.mostSent) <= maxRetries + 1 &&
            down.mostSent === maxRetries + 1 &&
            down.sent === down.calls * (maxRetries + 1),
          seen: `${Math.max(get.mostSent, keyed.mostSent)} at most, ${down.sent / down.calls} of what is down`
        }
      ],
      figures: { ...plan, without, with: retrying, extraLoad: extraLoad(get) }
    }
  })
}
