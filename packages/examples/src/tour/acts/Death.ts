/**
 * An instance dies: once while its connections are idle, once in the middle of the traffic.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import { type Contender } from "../contenders/Contender.ts"
import { millrace } from "../contenders/Millrace.ts"
import { roundRobinPool, singleConnection } from "../contenders/Undici.ts"
import { type Counts, total } from "../Counts.ts"
import { say } from "../Progress.ts"
import { type Table } from "../Report.ts"
import * as Stage from "../Stage.ts"
import { instanceHeader, send } from "../Traffic.ts"
import { type Act, onStage, showErrors, slots } from "./Act.ts"

interface Death {
  readonly victim: string
  /** Connections that led to the victim when it died. */
  readonly deadConnections: number
  readonly requests: number
  readonly answered: number
  readonly errors: Counts
  /** Requests that the client sent again by itself. */
  readonly resent: number
}

interface Row {
  readonly key: string
  readonly label: string
  readonly idle: Death
  readonly busy: Death
}

const contenders: ReadonlyArray<Contender> = [
  singleConnection,
  roundRobinPool({ connections: slots }),
  millrace({ slots })
]

const idlePlan = { warmUp: 2 * slots, requests: 200, callers: 1 } as const
const busyPlan = { requests: 640, callers: 64, killAfter: 160, noticedAfter: 100, answerAfter: 1 } as const

/**
 * The instance dies between two requests, as a host that loses power: it says no farewell, so its connections look
 * alive. A health check has taken it out of the balancer by the time the next request is sent.
 */
const whileIdle = Effect.fnUntraced(function* (contender: Contender) {
  yield* say(`death: an idle instance dies, ${contender.label.trim()}`)
  const stage = yield* Stage.make()
  const client = yield* onStage(contender, stage)
  let victim = ""
  yield* send(client, {
    requests: idlePlan.warmUp,
    callers: 1,
    // The instance that answered first: every contender has a connection to it.
    onEnd: (_, outcome) => {
      if (victim === "" && "status" in outcome) victim = outcome.header(instanceHeader) ?? ""
    }
  })
  const deadConnections = stage.open()[victim] ?? 0
  yield* stage.kill(victim)
  stage.notice(victim)
  const { answered, errors, requests } = yield* send(client, idlePlan)
  const { resent } = yield* client.facts
  const death: Death = { victim, deadConnections, requests, answered, errors, resent }
  return death
}, Effect.scoped)

/** The instance dies while 64 callers wait for answers; for a moment the balancer goes on sending connections to it. */
const whileBusy = Effect.fnUntraced(function* (contender: Contender) {
  yield* say(`death: an instance dies under ${busyPlan.callers} callers, ${contender.label.trim()}`)
  const stage = yield* Stage.make({ answerAfter: busyPlan.answerAfter })
  const client = yield* onStage(contender, stage)
  const due = yield* Deferred.make<void>()
  let victim = ""
  let deadConnections = 0
  yield* Effect.forkScoped(
    Effect.gen(function* () {
      yield* Deferred.await(due)
      deadConnections = stage.open()[victim] ?? 0
      yield* stage.kill(victim)
      yield* Effect.sleep(busyPlan.noticedAfter)
      stage.notice(victim)
    })
  )
  const { answered, errors, requests } = yield* send(client, {
    ...busyPlan,
    onEnd: (ended, outcome) => {
      if (victim === "" && "status" in outcome) victim = outcome.header(instanceHeader) ?? ""
      if (ended === busyPlan.killAfter) Deferred.doneUnsafe(due, Effect.void)
    }
  })
  const { resent } = yield* client.facts
  const death: Death = { victim, deadConnections, requests, answered, errors, resent }
  return death
}, Effect.scoped)

const table = (rows: ReadonlyArray<Row>, moment: "idle" | "busy", title: string): Table => ({
  title,
  columns: ["client", "dead", "re-sent", "answered", "errors"],
  rows: rows.map((row) => {
    const { answered, deadConnections, errors, resent } = row[moment]
    return [row.label, deadConnections, resent, answered, showErrors(errors)]
  })
})

export const death: Act = {
  key: "death",
  title: "An instance dies",
  claimed:
    "A kept-alive connection whose other end has died looks alive until something is sent. That is not the caller's " +
    "problem: Millrace sends an idempotent request again, once, on another connection. A POST that may have been " +
    "processed is never sent again by this rule.",
  play: Effect.gen(function* () {
    const rows = yield* Effect.forEach(contenders, (contender) =>
      Effect.gen(function* () {
        const idle = yield* whileIdle(contender)
        const busy = yield* whileBusy(contender)
        return { key: contender.key, label: contender.label, idle, busy } satisfies Row
      })
    )
    const { idle } = rows.find((row) => row.key === "millrace")!
    return {
      tables: [
        table(rows, "idle", `It dies while idle; then ${idlePlan.requests} GET requests from one caller`),
        table(rows, "busy", `It dies under ${busyPlan.callers} callers; ${busyPlan.requests} GET requests in all`)
      ],
      note:
        "dead: connections that led to the instance when it died. re-sent: requests that the client sent again by itself. " +
        `Under ${busyPlan.callers} callers nothing is claimed: for ${busyPlan.noticedAfter} ms the balancer goes on ` +
        "dealing new connections to the dead instance, and such a request may fail with any client.",
      claims: [
        {
          text: "Millrace: callers see no error when the connections of a dead instance are found out.",
          holds: idle.deadConnections > 0 && total(idle.errors) === 0 && idle.answered === idlePlan.requests,
          seen: `${idle.deadConnections} dead connections, ${idle.resent} requests sent again, ${total(idle.errors)} errors`
        }
      ],
      figures: { idle: idlePlan, busy: busyPlan, contenders: rows }
    }
  })
}
