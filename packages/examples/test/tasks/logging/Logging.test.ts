import { assert, describe, it } from "@effect/vitest"
import { Console, Deferred, Duration, Effect, Exit, Layer, Metric, Redacted, References, Scope } from "effect"
import { TestConsole } from "effect/testing"
import * as Logging from "../../../src/tasks/logging/Logging.ts"
import * as Settings from "../../../src/tasks/Settings.ts"
import * as Engine from "./clickhouse.ts"

const settings = (environment: Record<string, string> = {}) => Settings.read({ environment })

/** What these settings make of two lines in the log. */
const lines = Effect.fnUntraced(function* (terminal: boolean, environment: Record<string, string> = {}) {
  const layer = Logging.layer({ ...(yield* settings(environment)), terminal })
  yield* Effect.logInfo("hello", { n: 1 }).pipe(
    Effect.andThen(Effect.logDebug("details")),
    Effect.annotateLogs({ token: Redacted.make("hush") }),
    Effect.provide(layer)
  )
  return (yield* TestConsole.logLines).map(String)
})

/** A console whose lines of errors are kept; `first` is there when one is. */
const watched = Effect.gen(function* () {
  const first = yield* Deferred.make<void>()
  const errors: Array<unknown> = []
  const error = (line: unknown): void => {
    errors.push(JSON.parse(String(line)))
    Deferred.doneUnsafe(first, Effect.void)
  }
  return { errors, first, console: { ...globalThis.console, error } }
})

const metrics = Effect.map(Metric.snapshot, (all) => new Map(all.map(({ id, state }) => [id, state])))

describe("Logging", () => {
  it.effect("where stdout is no terminal each line is a JSON object", () =>
    Effect.gen(function* () {
      const found = yield* lines(false)
      assert.lengthOf(found, 1)
      const line: unknown = JSON.parse(found[0] ?? "")
      assert.deepInclude(line, {
        level: "INFO",
        message: ["hello", { n: 1 }],
        annotations: { token: "<redacted>" }
      })
    })
  )

  it.effect("in a terminal it is text", () =>
    Effect.gen(function* () {
      const found = (yield* lines(true)).join("\n")
      assert.include(found, "hello")
      assert.throws(() => void JSON.parse(found))
      assert.notInclude(found, "hush")
    })
  )

  it.effect("the settings have the last word: JSON in a terminal, text without colours in a file", () =>
    Effect.gen(function* () {
      const [json = ""] = yield* lines(true, { TASKS_LOGGER_HANDLER: "json" })
      assert.deepInclude(JSON.parse(json), { level: "INFO" })
      const text = (yield* lines(false, { TASKS_LOGGER_HANDLER: "text" })).slice(1).join("\n")
      assert.include(text, "INFO")
      assert.notInclude(text, "\u001b")
    })
  )

  it.effect("the level is that of the settings", () =>
    Effect.gen(function* () {
      assert.lengthOf(yield* lines(false, { TASKS_LOGGER_LEVEL: "debug" }), 2)
      const level = yield* References.MinimumLogLevel.pipe(
        Effect.provide(Logging.layer(yield* settings({ TASKS_LOGGER_LEVEL: "none" })))
      )
      assert.strictEqual(level, "None")
    })
  )

  it.live(
    "with ClickHouse all lines are there when the service has stopped, and none went to stdout",
    () =>
      Effect.gen(function* () {
        const server = yield* Engine.start
        const { console, errors } = yield* watched
        const written: Array<unknown> = []
        const layer = Logging.layer({
          ...(yield* settings({
            TASKS_LOGGER_OUTPUT_INTERNAL: "false",
            TASKS_CLICKHOUSE_ADDRESS: server.address,
            TASKS_CLICKHOUSE_BATCH_SIZE: "2"
          })),
          instance: "me:1"
        })
        yield* Effect.gen(function* () {
          for (let n = 0; n < 5; n++) yield* Effect.logInfo("line", n).pipe(Effect.annotateLogs({ n }))
          yield* Effect.logDebug("not this one")
        }).pipe(
          Effect.provide(layer),
          Effect.provideService(Console.Console, { ...console, log: (line: unknown) => void written.push(line) })
        )
        const query = "select message, annotations['n'] as n, service, instance from tasks.logs order by n"
        assert.deepStrictEqual(
          yield* Effect.promise(() => server.ask(query)),
          [0, 1, 2, 3, 4].map((n) => ({ message: `line ${n}`, n: String(n), service: "tasks", instance: "me:1" }))
        )
        assert.deepStrictEqual([written, errors], [[], []])
      }),
    { timeout: 60_000 }
  )

  it.live("a ClickHouse that was never there stops nothing: what is lost is a metric, and a line on stderr", () =>
    Effect.gen(function* () {
      const port = yield* Effect.promise(() => Engine.freePort())
      const { console, errors, first } = yield* watched
      const scope = yield* Scope.make()
      const context = yield* Layer.buildWithScope(
        Logging.layer({
          ...(yield* settings({
            TASKS_LOGGER_OUTPUT_INTERNAL: "false",
            TASKS_CLICKHOUSE_ADDRESS: `127.0.0.1:${port}`,
            TASKS_CLICKHOUSE_PASSWORD: "hush",
            TASKS_CLICKHOUSE_BATCH_SIZE: "2",
            TASKS_CLICKHOUSE_BUFFER: "3",
            TASKS_CLICKHOUSE_CONNECTION_ATTEMPTS: "1"
          })),
          flushTimeout: Duration.millis(1)
        }),
        scope
      ).pipe(Effect.provideService(Console.Console, console))
      for (let n = 0; n < 5; n++) yield* Effect.provideContext(Effect.logInfo(n), context)
      yield* Deferred.await(first)
      const during = yield* metrics
      assert.deepStrictEqual(during.get("tasks.log.dropped"), { count: 2, incremental: true })
      assert.deepStrictEqual(during.get("tasks.log.waiting"), { value: 3 })
      assert.deepStrictEqual(during.get("tasks.log.written"), { count: 0, incremental: true })
      yield* Scope.close(scope, Exit.void)
      assert.isFalse((yield* metrics).has("tasks.log.dropped"))

      assert.lengthOf(errors, 2)
      const [away, lost] = errors
      assert.deepInclude(away, { level: "WARN", annotations: { dropped: 2 } })
      assert.deepInclude(lost, {
        level: "WARN",
        message: "Logs could not be written before the end",
        annotations: { dropped: 3 }
      })
      assert.notInclude(JSON.stringify(errors), "hush")
    }).pipe(Effect.provideService(Metric.MetricRegistry, new Map()))
  )
})
