/**
 * Log rows in a table of ClickHouse.
 *
 * What it promises:
 *
 * - It connects when there is something to write, not before; database and table are made when they are not there, and again after
 *   somebody has dropped them. A user who may not make them writes to those that are there.
 * - A batch that is written again, because nobody knows what became of it, stands in the table once.
 * - Its errors name no password.
 */
import { ClickHouseError, ClickHouseLogLevel, createClient } from "@clickhouse/client"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import { SinkError, type Sink } from "./Batcher.ts"
import type { LogRow } from "./LogRow.ts"

export interface Options {
  /** `http://127.0.0.1:8123` */
  readonly address: string
  readonly username: string
  readonly password: Redacted.Redacted
  /** Names that SQL takes without quotes. */
  readonly database: string
  readonly table: string
}

const schema = ({ database, table }: Options): ReadonlyArray<string> => [
  `create database if not exists ${database}`,
  `create table if not exists ${database}.${table} (
    timestamp DateTime64(3, 'UTC'),
    level LowCardinality(String),
    message String,
    service LowCardinality(String),
    instance LowCardinality(String),
    fiber UInt64,
    annotations Map(String, String),
    spans Map(String, Float64),
    cause String
  )
  engine = MergeTree
  partition by toYYYYMM(timestamp)
  order by (service, timestamp)
  settings non_replicated_deduplication_window = 1000`
]

/** For one request. */
const requestTimeout = 10_000

/**
 * What ClickHouse says of rows that it will never take: they cannot be parsed, or do not fit the table. All else may pass, or is for
 * those who run it to mend: credentials, rights, space.
 */
const refusals: ReadonlySet<string> = new Set(
  [6, 16, 26, 27, 36, 38, 41, 44, 53, 62, 70, 72, 117, 131, 349, 469].map(String)
)

/** The table or its database is not there (any more). */
const missing: ReadonlySet<string> = new Set(["60", "81"])

/** What went wrong with one request. */
class Failure extends Data.TaggedError("Failure")<{
  /** What ClickHouse answered, if it was reached. */
  readonly code: string | undefined
  readonly message: string
}> {}

const failure = (cause: unknown): Failure => {
  const text = cause instanceof Error && cause.message !== "" ? cause.message : String(cause)
  const [line = ""] = text.split("\n")
  return cause instanceof ClickHouseError
    ? new Failure({ code: cause.code, message: `ClickHouse answers ${cause.code}, ${line.slice(0, 300)}` })
    : new Failure({ code: undefined, message: line })
}

/** Its connections end with the scope. */
export const sink = Effect.fnUntraced(function* (options: Options): Effect.fn.Return<Sink<LogRow>, never, Scope.Scope> {
  const client = yield* Effect.acquireRelease(
    Effect.sync(() =>
      createClient({
        url: options.address,
        username: options.username,
        password: Redacted.value(options.password),
        application: "tasks",
        request_timeout: requestTimeout,
        max_open_connections: 1,
        // It would write to the console; what it has to say comes back as errors.
        log: { level: ClickHouseLogLevel.OFF }
      })
    ),
    (client) => Effect.ignore(Effect.tryPromise(() => client.close()))
  )
  let prepared = false
  /** Why the table could not be made. */
  let hindrance = ""

  const ask = <A>(run: (signal: AbortSignal) => Promise<A>): Effect.Effect<A, Failure> =>
    Effect.tryPromise({ try: (signal) => run(signal), catch: failure })

  const prepare = Effect.forEach(schema(options), (query) =>
    ask((signal) => client.command({ query, abort_signal: signal }))
  ).pipe(
    Effect.as(""),
    // It was reached, and did not let us: the table may be there all the same, which the insert will show.
    Effect.catchIf(
      ({ code }) => code !== undefined,
      ({ message }) => Effect.succeed(`; the table could not be made: ${message}`)
    ),
    Effect.map((why) => {
      prepared = true
      hindrance = why
    })
  )

  return (batch, token) =>
    Effect.suspend(() => (prepared ? Effect.void : prepare)).pipe(
      Effect.andThen(
        ask((signal) =>
          client.insert({
            table: `${options.database}.${options.table}`,
            values: batch,
            format: "JSONEachRow",
            abort_signal: signal,
            clickhouse_settings: { insert_deduplication_token: token, async_insert: 0 }
          })
        )
      ),
      Effect.mapError(({ code = "", message }) => {
        const gone = missing.has(code)
        if (gone) prepared = false
        return new SinkError({
          reason: refusals.has(code) ? "refused" : "unavailable",
          message: gone ? message + hindrance : message
        })
      }),
      Effect.asVoid
    )
})
