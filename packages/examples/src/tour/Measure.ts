/**
 * The spread measurement against a service of the user's own: the same requests, one at a time, over one keep-alive
 * connection and through Millrace. It never floods: one caller, a bounded number of requests, and it gives up on a client
 * whose requests fail several times in a row.
 */
import { type Connector } from "@millrace/core/client/Connector"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import { showErrors } from "./acts/Act.ts"
import { type Answer, type Contender, type RequestFailed } from "./contenders/Contender.ts"
import { millrace } from "./contenders/Millrace.ts"
import { singleConnection } from "./contenders/Undici.ts"
import { type Counts, tally, total } from "./Counts.ts"
import { say } from "./Progress.ts"
import { printable, shorten, type Table } from "./Report.ts"
import { send } from "./Traffic.ts"

export interface Options {
  readonly url: URL
  readonly requests: number
  readonly slots: number
  readonly byHeader?: string | undefined
}

export interface Measured {
  readonly url: string
  /** The header that tells instances apart; `null` when there is none. */
  readonly header: string | null
  readonly clients: ReadonlyArray<{
    readonly key: string
    readonly label: string
    /** Requests that were sent: fewer than asked for when the client was given up. */
    readonly requests: number
    readonly answered: number
    readonly givenUp: boolean
    readonly connections: number
    readonly statuses: Counts
    readonly errors: Counts
    /** Answers by the value of the header; `null` without a header. */
    readonly perInstance: Counts | null
  }>
}

/** Tried in this order. `server` mostly names the software: it counts only when it has more than one value. */
const instanceHeaders = [
  "x-instance",
  "x-instance-id",
  "x-served-by",
  "x-pod-name",
  "x-pod",
  "x-hostname",
  "x-backend-server",
  "x-backend",
  "x-server",
  "x-server-id",
  "server"
] as const

const timeout = 10_000
const givesUpAfter = 5
const saysEvery = 1000

const none = "(no such header)"

export const measure = (options: Options): Effect.Effect<Measured, never, Connector> =>
  Effect.gen(function* () {
    const candidates = options.byHeader === undefined ? instanceHeaders : [options.byHeader]
    const contenders = [singleConnection, millrace({ slots: options.slots })]
    const runs = yield* Effect.forEach(contenders, (contender) => run(contender, options, candidates))
    const header = choose(candidates, options.byHeader, runs)
    return {
      url: options.url.href,
      header: header ?? null,
      clients: runs.map(({ seen, ...client }) => ({
        ...client,
        perInstance: header === undefined ? null : (seen.get(header) ?? {})
      }))
    }
  })

const run = Effect.fnUntraced(function* (contender: Contender, options: Options, candidates: ReadonlyArray<string>) {
  const report = yield* progressOf(contender, options.requests)
  const client = yield* contender.open({ url: options.url, timeout })
  const statuses = tally()
  const headers = new Map(candidates.map((name) => [name, tally()]))
  let failuresInARow = 0
  const onEnd = (ended: number, outcome: Answer | RequestFailed): boolean => {
    report(ended)
    if ("kind" in outcome) return ++failuresInARow < givesUpAfter
    failuresInARow = 0
    statuses.add(String(outcome.status))
    for (const [name, values] of headers) values.add(outcome.header(name) ?? none)
    return true
  }
  const { answered, errors, requests } = yield* send(client, { requests: options.requests, callers: 1, onEnd })
  const { connections } = yield* client.facts
  return {
    key: contender.key,
    label: contender.label,
    requests,
    answered,
    givenUp: failuresInARow >= givesUpAfter,
    connections,
    statuses: statuses.counts(),
    errors,
    seen: new Map([...headers].map(([name, values]) => [name, values.counts()]))
  }
}, Effect.scoped)

const progressOf = Effect.fnUntraced(function* (contender: Contender, requests: number) {
  const context = yield* Effect.context<never>()
  const clock = yield* Clock.Clock
  const tell = (done: number) => Effect.runSyncWith(context)(say(`${contender.label}: ${done} of ${requests} requests`))
  let told = clock.currentTimeMillisUnsafe()
  tell(0)
  return (done: number): void => {
    const now = clock.currentTimeMillisUnsafe()
    if (now - told < saysEvery) return
    told = now
    tell(done)
  }
})

/** The header that was asked for; or else the first that differs between answers; or else the first that is there. */
const choose = (
  candidates: ReadonlyArray<string>,
  asked: string | undefined,
  runs: ReadonlyArray<{ readonly seen: ReadonlyMap<string, Counts> }>
): string | undefined => {
  const values = (name: string): Set<string> =>
    new Set(runs.flatMap(({ seen }) => Object.keys(seen.get(name) ?? {})).filter((value) => value !== none))
  if (asked !== undefined) return values(asked).size > 0 ? asked : undefined
  return (
    candidates.find((name) => values(name).size > 1) ??
    candidates.find((name) => name !== "server" && values(name).size > 0)
  )
}

/** No more rows than a person reads. */
const maxInstances = 24
const maxNameLength = 40

export const tables = ({ clients, header }: Measured): ReadonlyArray<Table> => {
  const connections: Table = {
    title: "Connections",
    columns: ["client", "requests", "answered", "connections", "reqs/conn", "errors"],
    rows: clients.map((client) => [
      client.label,
      client.requests,
      client.answered,
      client.connections,
      client.connections === 0 ? "-" : (client.requests / client.connections).toFixed(1),
      total(client.errors)
    ])
  }
  if (header === null) return [connections]
  const names = [...new Set(clients.flatMap(({ perInstance }) => Object.keys(perInstance ?? {})))]
  const of = (name: string) => clients.map(({ perInstance }) => perInstance?.[name] ?? 0)
  const byCount = names.toSorted((a, b) => of(b).reduce((x, y) => x + y) - of(a).reduce((x, y) => x + y))
  const shown = byCount.length > maxInstances ? byCount.slice(0, maxInstances) : byCount.toSorted()
  const rest = byCount.slice(shown.length)
  const rows = shown.map((name) => [shorten(printable(name), maxNameLength), ...of(name)])
  if (rest.length > 0) {
    const sums = clients.map((_, i) => rest.reduce((sum, name) => sum + (of(name)[i] ?? 0), 0))
    rows.push([`and ${rest.length} others`, ...sums])
  }
  return [
    connections,
    {
      title: `Answers by instance, told apart by the header ${header}`,
      columns: ["instance", ...clients.map(({ label }) => label)],
      rows
    }
  ]
}

/** What the tables cannot say. */
export const notes = (measured: Measured, options: Options): ReadonlyArray<string> => {
  const notes: Array<string> = []
  for (const { answered, errors, givenUp, label, requests, statuses } of measured.clients) {
    if (total(errors) > 0) {
      const end = givenUp ? `; given up after ${requests} requests, as ${givesUpAfter} failed in a row` : ""
      notes.push(`${label}: errors: ${showErrors(errors)}${end}.`)
    }
    const unusual = Object.keys(statuses).filter((status) => !status.startsWith("2"))
    if (answered > 0 && unusual.length > 0) notes.push(`${label}: answers by status: ${showErrors(statuses)}.`)
  }
  const answered = measured.clients.some((client) => client.answered > 0)
  if (answered && measured.header === null) {
    notes.push(
      options.byHeader === undefined
        ? "Instances cannot be told apart: no known header names them. If a response header does, name it with " +
            "--by-header. Until then only connections are shown; behind a TCP balancer each may lead to another instance."
        : `Instances cannot be told apart: no answer has the header ${options.byHeader}. Only connections are shown.`
    )
  }
  return notes
}
