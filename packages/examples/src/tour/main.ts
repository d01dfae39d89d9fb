/**
 * `npm start`: plays the tour, or with `--url` measures a service of the user's own.
 *
 * Results go to stdout, progress to stderr. SIGINT ends it at once: all sockets close with their scopes.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { type Connector } from "@millrace/core/client/Connector"
import { UndiciConnector } from "@millrace/node"
import * as Effect from "effect/Effect"
import { type Command, parse, usage } from "./Arguments.ts"
import { type ListenError } from "./Loopback.ts"
import * as Measure from "./Measure.ts"
import { Progress } from "./Progress.ts"
import * as Report from "./Report.ts"
import * as Tour from "./Tour.ts"

/** On a terminal, progress is one line that is overwritten, and gone before anything else is printed. */
const transient = process.stderr.isTTY && process.env["TERM"] !== "dumb"
let shown = false

const clear = (): void => {
  if (shown) process.stderr.write("\r\x1b[K")
  shown = false
}

const progress = (text: string): void => {
  const line = `  ... ${Report.printable(text)}`
  clear()
  process.stderr.write(
    transient ? Report.shorten(line, (process.stderr.columns || Report.maxColumns) - 1) : `${line}\n`
  )
  shown = transient
}

const print = (text: string): void => {
  clear()
  process.stdout.write(text)
}

const complain = (text: string): void => {
  clear()
  process.stderr.write(text)
}

const printJson = (value: unknown): void => print(`${JSON.stringify(value, undefined, 2)}\n`)

// A reader who has seen enough (`npm start | head`) is no error.
process.stdout.on("error", (error: NodeJS.ErrnoException) => process.exit(error.code === "EPIPE" ? 0 : 1))

const report = Report.make({
  columns: process.stdout.columns,
  colour: process.stdout.isTTY && !process.env["NO_COLOR"]
})

const tour = Effect.fnUntraced(function* (json: boolean) {
  const begun = performance.now()
  const played = yield* Tour.play({
    opening: (act, number) => {
      if (!json) print(`\n${report.headline(`${number}. ${act.title}`)}\n${report.paragraph(act.claimed)}\n`)
    },
    closing: ({ outcome }) => {
      if (json) return
      const note = outcome.note === undefined ? "" : `${report.paragraph(outcome.note)}\n`
      print(`${outcome.tables.map(report.table).join("\n")}\n${note}${outcome.claims.map(report.claim).join("")}`)
    }
  })
  const broken = Tour.broken(played)
  if (json) printJson(Tour.toJson(played))
  else {
    const claims = played.flatMap(({ outcome }) => outcome.claims).length
    const seconds = ((performance.now() - begun) / 1000).toFixed(1)
    print(`\n${report.paragraph(`${claims - broken.length} of ${claims} claims hold (${seconds} s).`)}`)
  }
  for (const { seen, text } of broken) complain(`millrace: a claim does not hold: ${text} (${seen})\n`)
  return broken.length === 0 ? 0 : 1
})

const measure = Effect.fnUntraced(function* (command: Extract<Command, { _tag: "Measure" }>) {
  if (!command.json) print(`\n${report.headline(`Who reaches which instance of ${command.url.href}`)}\n`)
  const measured = yield* Measure.measure(command)
  if (command.json) printJson(measured)
  else {
    print(`${Measure.tables(measured).map(report.table).join("\n")}\n`)
    print(Measure.notes(measured, command).map(report.paragraph).join(""))
  }
  if (measured.clients.some(({ answered }) => answered > 0)) return 0
  complain(`millrace: no request to ${command.url.href} was answered\n`)
  return 1
})

const run = (command: Command): Effect.Effect<number, ListenError, Connector> => {
  switch (command._tag) {
    case "Help":
      return Effect.as(
        Effect.sync(() => print(usage)),
        0
      )
    case "Wrong":
      return Effect.as(
        Effect.sync(() => complain(wrong(command.problems))),
        2
      )
    case "Tour":
      return tour(command.json)
    case "Measure":
      return measure(command)
  }
}

const wrong = (problems: ReadonlyArray<string>): string =>
  `millrace: the arguments are wrong:\n${problems.map((problem) => `  - ${problem}\n`).join("")}--help says what there is.\n`

run(parse(process.argv.slice(2))).pipe(
  Effect.map((status) => void (process.exitCode = status)),
  Effect.catchTag("ListenError", (error) =>
    Effect.sync(() => {
      complain(`millrace: ${error.message}\n`)
      process.exitCode = 1
    })
  ),
  Effect.provideService(Progress, progress),
  Effect.ensuring(Effect.sync(clear)),
  Effect.provide(UndiciConnector.layer),
  NodeRuntime.runMain
)
