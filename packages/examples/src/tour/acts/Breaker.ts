/**
 * All instances fail for a while: who goes on asking them.
 */
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { type Policies, millrace } from "../contenders/Millrace.ts"
import { type Counts, median, total } from "../Counts.ts"
import { say } from "../Progress.ts"
import * as Stage from "../Stage.ts"
import { send, sendEach } from "../Traffic.ts"
import { type Act, onStage, percent, slots } from "./Act.ts"

/** Times are milliseconds. */
const plan = {
  callers: 16,
  answerAfter: 10,
  outage: 300,
  failures: 5,
  openFor: 300,
  afterwards: 100
} as const

interface Row {
  readonly key: string
  readonly label: string
  /** What callers saw, by moment. */
  readonly outage: Seen
  readonly recovery: Seen
  readonly afterwards: Seen
  /** Milliseconds until callers knew, the median of the outage. */
  readonly knownAfter: number
  /** Probes that the circuit let through during the outage: none, unless the machine is slow. */
  readonly probes: number
  /** The states that the circuit went through. */
  readonly circuit: ReadonlyArray<string>
}

interface Seen {
  readonly requests: number
  /** Requests that the instances got. */
  readonly reached: number
  readonly statuses: Counts
  readonly refused: number
}

const measure = Effect.fnUntraced(function* (key: string, label: string, policies: Policies) {
  yield* say(`breaker: an outage ${label}`)
  let failing = true
  let received = 0
  const reply = () => {
    received++
    return { status: failing ? 503 : 200 }
  }
  const stage = yield* Stage.make({ answerAfter: plan.answerAfter, reply })
  const client = yield* onStage(millrace({ slots, policies }), stage)
  const circuit: Array<string> = []
  yield* Effect.forkScoped(
    Stream.runForEach(client.pool.events, (event) =>
      Effect.sync(() => {
        if (event._tag === "Circuit") circuit.push(event.to)
      })
    ),
    { startImmediately: true }
  )
  const times: Array<number> = []
  const timed = Effect.suspend(() => {
    const begun = performance.now()
    return Effect.ensuring(
      client.get,
      Effect.sync(() => void times.push(performance.now() - begun))
    )
  })
  const see = Effect.fnUntraced(function* (traffic: ReturnType<typeof send>) {
    const before = received
    const { errors, requests, statuses } = yield* traffic
    const seen: Seen = { requests, reached: received - before, statuses, refused: errors["CircuitOpen"] ?? 0 }
    return seen
  })
  const { callers } = plan

  const outage = yield* see(sendEach(() => timed, { requests: plan.outage, callers }))
  failing = false
  yield* Effect.sleep(plan.openFor)
  const probes = circuit.filter((state) => state === "HalfOpen").length
  // All of them at once: what a circuit that closes by the clock lets through.
  const recovery = yield* see(send(client, { requests: callers, callers }))
  const afterwards = yield* see(send(client, { requests: plan.afterwards, callers }))
  const row: Row = { key, label, outage, recovery, afterwards, knownAfter: median(times), probes, circuit }
  return row
}, Effect.scoped)

const millis = (time: number): string => `${time < 1 ? time.toFixed(2) : time.toFixed(0)} ms`

export const breaker: Act = {
  key: "breaker",
  title: "An upstream that fails",
  claimed:
    `All instances answer 503. With \`circuitBreaker\` the circuit opens after ${plan.failures} failures in a row: callers ` +
    "know at once, and the upstream is left alone. After a while one request goes ahead to see, and the rest follow if it " +
    "goes well.",
  play: Effect.gen(function* () {
    const circuitBreaker = { consecutiveFailures: plan.failures, openFor: plan.openFor }
    const [without, broken] = yield* Effect.all(
      [measure("without", "without circuitBreaker", {}), measure("with", "with circuitBreaker", { circuitBreaker })],
      { concurrency: 2 }
    )
    const spared = 1 - broken.outage.reached / without.outage.reached
    const { afterwards, circuit, outage, probes, recovery } = broken
    // When the last failure opens it, those before it have made way for others, and every caller may be under way.
    const bound = plan.callers + plan.failures - 1 + probes
    return {
      tables: [
        {
          title: `${plan.outage} requests while all instances fail, then ${plan.callers} at once when they are well`,
          columns: ["Millrace", "sent", "refused", "known after", "sent then", "refused then"],
          rows: [without, broken].map(({ knownAfter, label, outage, recovery }) => [
            label,
            outage.reached,
            outage.refused,
            millis(knownAfter),
            recovery.reached,
            recovery.refused
          ])
        }
      ],
      note:
        `sent: requests that the instances got. known after: until a caller knew that it had failed, the median. Spared: ${percent(spared)}. Circuit: ` +
        `${["Closed", ...circuit].join(", ")}.`,
      claims: [
        {
          text: `Millrace with circuitBreaker: no more than ${bound} requests reach the failing instances.`,
          holds:
            outage.reached <= bound &&
            outage.reached + outage.refused === plan.outage &&
            without.outage.reached === plan.outage,
          seen: `${outage.reached} of ${plan.outage}, ${outage.refused} refused`
        },
        {
          text: "Of all that come when it may be over, one is the probe.",
          holds: recovery.reached === 1 && recovery.statuses[200] === 1 && recovery.refused === plan.callers - 1,
          seen: `${recovery.reached} sent, ${recovery.refused} refused`
        },
        {
          text: "Its success closes the circuit: everybody is served.",
          holds: circuit.at(-1) === "Closed" && afterwards.statuses[200] === plan.afterwards,
          seen: `${afterwards.statuses[200] ?? 0} of ${total(afterwards.statuses) + afterwards.refused} answered with 200`
        }
      ],
      figures: { ...plan, bound, spared, clients: [without, broken] }
    }
  })
}
