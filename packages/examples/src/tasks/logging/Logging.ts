/**
 * Where the log goes: to stdout, for people or machines, or to ClickHouse.
 *
 * What it promises:
 *
 * - In a terminal text, elsewhere one JSON object a line, unless the settings say otherwise.
 * - A ClickHouse that is slow, away or full never stops or slows the service, not even at the start. Rows wait in memory up to a
 *   bound; how many were dropped is the metric `tasks.log.dropped`, and a line on stderr when it is over.
 * - What logging has to say about itself goes to stderr, never into the log.
 *
 * Build it below all other layers: what is logged after its scope has closed is lost.
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import type { LogLevel } from "effect/LogLevel"
import * as Metric from "effect/Metric"
import * as References from "effect/References"
import type * as Scope from "effect/Scope"
import { hostname } from "node:os"
import type { Settings } from "../Settings.ts"
import * as Batcher from "./Batcher.ts"
import * as ClickHouse from "./ClickHouse.ts"
import * as LogRow from "./LogRow.ts"

export interface Options extends Pick<Settings, "logger" | "clickhouse"> {
  /** Which process this is, in rows. Default: host name and process id. */
  readonly instance?: string | undefined
  /** Whether stdout is a terminal. Default: what the system says. */
  readonly terminal?: boolean | undefined
  /** What unwritten rows get when the service stops. Default: 5 s. */
  readonly flushTimeout?: Duration.Duration | undefined
}

const levels: { readonly [L in Settings["logger"]["level"]]: LogLevel } = {
  trace: "Trace",
  debug: "Debug",
  info: "Info",
  warn: "Warn",
  error: "Error",
  fatal: "Fatal",
  none: "None"
}

const toStdout = (handler: Settings["logger"]["handler"], terminal: boolean): Logger.Logger<unknown, void> =>
  handler === "json" || (handler === "auto" && !terminal)
    ? Logger.consoleJson
    : Logger.consolePretty({ mode: "tty", colors: terminal && process.env["NO_COLOR"] === undefined })

/** One line of JSON on stderr. */
const toStderr = new Set([Logger.withConsoleError(Logger.formatJson)])

const report = ({ dropped, event, message }: Batcher.Report): Effect.Effect<void> =>
  (event === "back" ? Effect.logInfo(message) : Effect.logWarning(message)).pipe(
    Effect.annotateLogs({ dropped }),
    Effect.provideService(Logger.CurrentLoggers, toStderr),
    Effect.provideService(References.MinimumLogLevel, "Info")
  )

const ignore = (): void => {}

/** Counts that are read when somebody asks for the metrics. */
const measure = Effect.fnUntraced(function* (counts: () => Batcher.Counts): Effect.fn.Return<void, never, Scope.Scope> {
  const context = yield* Effect.context<never>()
  const register = <Input, State>(metric: Metric.Metric<Input, State>, get: () => State) =>
    Effect.acquireRelease(
      Effect.sync(() => Metric.registerUnsafe(metric, context, { get, update: ignore, modify: ignore })),
      (registration) => Effect.sync(() => registration.remove())
    )
  const counter = (name: string, description: string, count: () => number) =>
    register(Metric.counter(name, { description, incremental: true }), () => ({ count: count(), incremental: true }))
  yield* counter("tasks.log.written", "Log rows that ClickHouse has.", () => counts().written)
  yield* counter("tasks.log.dropped", "Log rows that were lost.", () => counts().dropped)
  yield* register(Metric.gauge("tasks.log.waiting", { description: "Log rows in memory." }), () => ({
    value: counts().waiting
  }))
})

const toClickHouse = Effect.fnUntraced(function* (
  options: Options
): Effect.fn.Return<Logger.Logger<unknown, void>, never, Scope.Scope> {
  const { clickhouse } = options
  const batcher = yield* Batcher.make({
    sink: yield* ClickHouse.sink(clickhouse),
    batchSize: clickhouse.batch_size,
    batchInterval: clickhouse.batch_interval,
    buffer: clickhouse.buffer,
    attempts: clickhouse.connection_attempts,
    pause: clickhouse.connection_interval,
    flushTimeout: options.flushTimeout ?? Duration.seconds(5),
    report
  })
  yield* measure(batcher.counts)
  const instance = options.instance ?? `${hostname()}:${process.pid}`
  return Logger.map(LogRow.logger({ service: "tasks", instance }), batcher.offer)
})

/** Takes the place of all loggers, and sets the level. */
export const layer = (options: Options): Layer.Layer<never> =>
  Layer.effectContext(
    Effect.gen(function* () {
      const logger = options.logger.output_internal
        ? toStdout(options.logger.handler, options.terminal ?? process.stdout.isTTY)
        : yield* toClickHouse(options)
      return Context.mergeAll(
        Context.make(Logger.CurrentLoggers, new Set([logger])),
        Context.make(References.MinimumLogLevel, levels[options.logger.level])
      )
    })
  )
