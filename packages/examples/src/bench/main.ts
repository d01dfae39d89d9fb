/**
 * The benchmark: `npm run bench`. Measures scenario by scenario, prints the tables, holds them against the floors.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Effect from "effect/Effect"
import { writeFileSync } from "node:fs"
import { type Command, parse, usage } from "./Arguments.ts"
import { machine } from "./Machine.ts"
import { type Measured, measureMemory, measurePolicy, measureScenario, type Progress } from "./Measure.ts"
import * as Report from "./Report.ts"
import { memoryRows, policyRows, scenarios as clientScenarios } from "./Scenario.ts"
import { startServer } from "./Serving.ts"
import { serverScenarios } from "./ServerScenario.ts"
import { measureStreams, type Streamed, streamScenarios } from "./Streaming.ts"
import { type Check, judge, judgeMemory, judgePolicy, judgeStreams } from "./Verdict.ts"

const scenarios = [...clientScenarios, ...serverScenarios]

const print = (lines: ReadonlyArray<string>): Effect.Effect<void> =>
  Effect.sync(() => process.stdout.write(`${lines.join("\n")}\n\n`))

/** Where it stands, on one line of a terminal; in a log each step would be a line of noise. */
const progress: Progress = (text) =>
  Effect.sync(() => {
    if (process.stderr.isTTY) process.stderr.write(`\r\u001b[K${text}`)
  })

const clear = progress("")

/** Whether it could be written. */
const keep = (file: string, page: string): Effect.Effect<boolean> =>
  Effect.sync(() => {
    try {
      writeFileSync(file, page)
      return true
    } catch (error) {
      process.stderr.write(`The page could not be written: ${String(error)}\n`)
      return false
    }
  })

const bench = ({ json, judged, only, plan, save }: Extract<Command, { readonly _tag: "Bench" }>) =>
  Effect.gen(function* () {
    const on = machine()
    const page: Array<string> = []
    const show = (lines: ReadonlyArray<string>): Effect.Effect<void> => {
      page.push(...lines, "")
      return json ? Effect.void : print(lines)
    }
    const chosen = scenarios.filter(({ id }) => only.test(id))
    const rows = memoryRows.filter(({ id }) => only.test(id))
    const policies = policyRows.filter(({ id }) => only.test(id))
    const streams = streamScenarios.filter(({ id }) => only.test(id))
    if (chosen.length + rows.length + policies.length + streams.length === 0) {
      const names = [...scenarios, ...streamScenarios, ...policyRows, ...memoryRows].map(({ id }) => id)
      process.stderr.write(`Nothing matches. There are: ${names.join(", ")}\n`)
      return 2
    }
    const how = judged
      ? `Medians of ${plan.rounds} rounds of ${plan.seconds} s, contenders in turn${plan.isolated ? ", each in its own process" : ""}.`
      : "A quick run: one short round; the figures are rough and not judged."
    yield* show(Report.head(on, how))

    const server = yield* startServer
    const measured: Array<Measured> = []
    const checks: Array<Check> = []
    for (const scenario of chosen) {
      const result = yield* measureScenario(scenario, server, plan, progress)
      measured.push(result)
      checks.push(...judge(result))
      yield* clear
      yield* show(Report.scenario(result))
    }
    const streamed: Array<Streamed> = []
    for (const scenario of streams) {
      yield* progress(scenario.title)
      const result = yield* measureStreams(scenario, plan.streamBytes)
      streamed.push(result)
      checks.push(judgeStreams(result))
      yield* clear
      yield* show(Report.streams(result))
    }
    for (const row of policies) {
      yield* progress(row.title)
      checks.push(judgePolicy(row, yield* measurePolicy(row, plan)))
      yield* clear
    }
    for (const row of rows) {
      yield* progress(row.title)
      checks.push(judgeMemory(row, yield* measureMemory(row, server, plan)))
      yield* clear
    }

    const ok = checks.every((check) => check.ok)
    yield* show([...Report.floors(checks), judged ? Report.missed(checks) : "Not judged: a quick run."])
    const kept = save === undefined || (yield* keep(save, Report.page(page)))
    if (json) {
      const scenarioRows = measured.map(({ scenario: { id, title, callers }, rows, missing, disturbance }) => {
        return { id, title, callers, disturbance, rows, missing }
      })
      const streamRows = streamed.map(({ bytes, rows, scenario: { id } }) => ({ id, bytes, rows }))
      const report = { machine: on, plan, judged, ok, checks, scenarios: scenarioRows, streams: streamRows }
      process.stdout.write(`${JSON.stringify(report, null, 2)}\n`)
    }
    return kept && (ok || !judged) ? 0 : 1
  }).pipe(
    Effect.scoped,
    Effect.catchTag("ChildError", (error) =>
      Effect.sync(() => {
        process.stderr.write(`\nThe benchmark could not run: ${error.message}\n`)
        return 1
      })
    )
  )

const command = parse(process.argv.slice(2))
switch (command._tag) {
  case "Help":
    process.stdout.write(usage)
    break
  case "Wrong":
    process.stderr.write(`${command.problems.join("\n")}\n\n${usage}`)
    process.exitCode = 2
    break
  case "Bench":
    NodeRuntime.runMain(Effect.map(bench(command), (code) => void (process.exitCode = code)))
}
