/**
 * Who reaches which instance: the same requests through every contender, one after the other and from 64 callers.
 */
import * as Effect from "effect/Effect"
import { type Contender } from "../contenders/Contender.ts"
import { millrace } from "../contenders/Millrace.ts"
import { roundRobinPool, singleConnection } from "../contenders/Undici.ts"
import { since, total } from "../Counts.ts"
import { say } from "../Progress.ts"
import { type Claim, type Table } from "../Report.ts"
import * as Stage from "../Stage.ts"
import { send, type Traffic } from "../Traffic.ts"
import { type Act, onStage, slots } from "./Act.ts"

/** 200 = 8 slots x 25: in turn over 8 connections, 2 to each of 4 instances, that is 50 for every instance. */
const loads = [
  { key: "sequential", title: "one caller", requests: 200, callers: 1 },
  { key: "concurrent", title: "64 callers", requests: 2000, callers: 64 }
] as const

type LoadKey = (typeof loads)[number]["key"]

interface Spread extends Traffic {
  /** Connections that the balancer was asked for. */
  readonly connections: number
  readonly requestsPerConnection: number
}

interface Row {
  readonly key: string
  readonly label: string
  readonly loads: Readonly<Record<LoadKey, Spread>>
}

const contenders: ReadonlyArray<Contender> = [
  singleConnection,
  roundRobinPool({ connections: slots }),
  millrace({ slots })
]

/** Every load gets a new client, so that connections of the one do not help the other. */
const measure = Effect.fnUntraced(function* (contender: Contender, load: (typeof loads)[number]) {
  yield* say(`spread: ${load.requests} requests from ${load.title} through ${contender.label.trim()}`)
  const stage = yield* Stage.make()
  const client = yield* onStage(contender, stage)
  const before = stage.opened()
  const traffic = yield* send(client, load, Stage.instances)
  const connections = total(since(before, stage.opened()))
  const spread: Spread = { ...traffic, connections, requestsPerConnection: round(traffic.requests / connections) }
  return spread
}, Effect.scoped)

const round = (n: number): number => (Number.isFinite(n) ? Math.round(n * 10) / 10 : 0)

const table = (rows: ReadonlyArray<Row>, load: (typeof loads)[number]): Table => ({
  title: `${load.requests} requests from ${load.title}: requests that each instance answered`,
  columns: ["client", ...Stage.instances, "errors", "connections", "reqs/conn"],
  rows: rows.map(({ label, loads }) => {
    const { connections, errors, perInstance, requestsPerConnection } = loads[load.key]
    const answers = Stage.instances.map((name) => perInstance[name] ?? 0)
    return [label, ...answers, total(errors), connections, requestsPerConnection.toFixed(1)]
  })
})

const answersOf = ({ perInstance }: Spread): Array<number> => Stage.instances.map((name) => perInstance[name] ?? 0)

const claims = (rows: ReadonlyArray<Row>): ReadonlyArray<Claim> => {
  const of = (key: string, load: LoadKey): Spread => rows.find((row) => row.key === key)!.loads[load]
  const sequential = of("millrace", "sequential")
  const answers = answersOf(sequential)
  const single = answersOf(of("single", "sequential"))
  const concurrent = of("millrace", "concurrent")
  return [
    {
      text: "One keep-alive client reaches one instance only.",
      holds: single.filter((n) => n > 0).length === 1 && Math.max(...single) === loads[0].requests,
      seen: single.join("/")
    },
    {
      text: "Millrace, one caller: every instance within 1 request of every other, and none lost.",
      holds: Math.max(...answers) - Math.min(...answers) <= 1 && sequential.answered === loads[0].requests,
      seen: answers.join("/")
    },
    {
      text: `Millrace: ${slots} slots open exactly ${slots} connections.`,
      holds: sequential.connections === slots && concurrent.connections === slots,
      seen: `${sequential.connections} for one caller, ${concurrent.connections} for 64`
    }
  ]
}

export const spread: Act = {
  key: "spread",
  title: "Who reaches which instance",
  claimed:
    "Four instances stand behind a balancer that deals out connections, not requests. One keep-alive connection sticks " +
    `to one of them, whatever is sent. Millrace holds ${slots} and takes turns, so that every instance gets its share.`,
  play: Effect.gen(function* () {
    const rows = yield* Effect.forEach(contenders, (contender) =>
      Effect.gen(function* () {
        const sequential = yield* measure(contender, loads[0])
        const concurrent = yield* measure(contender, loads[1])
        return { key: contender.key, label: contender.label, loads: { sequential, concurrent } } satisfies Row
      })
    )
    return {
      tables: loads.map((load) => table(rows, load)),
      claims: claims(rows),
      note:
        "connections: those that the balancer was asked for. reqs/conn: how often each was used. undici's RoundRobinPool opens " +
        "one only when all others are busy.",
      figures: { instances: Stage.instances, slots, contenders: rows }
    }
  })
}
