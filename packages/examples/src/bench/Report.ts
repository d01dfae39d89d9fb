/** The table: at most 100 columns, readable without colour. */
import type { Machine } from "./Machine.ts"
import type { Measured, Row } from "./Measure.ts"
import type { Streamed } from "./Streaming.ts"
import type { Check } from "./Verdict.ts"

export const width = 100

const widths = [29, 9, 7, 11, 8, 7, 8, 10, 8] as const

const line = (cells: ReadonlyArray<string>): string =>
  cells
    .map((cell, i) => (i === 0 ? cell.slice(0, widths[0]).padEnd(widths[0]) : cell.padStart(widths[i] ?? 0)))
    .join("")
    .trimEnd()

const number = (value: number, digits = 0): string =>
  value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits })

const percent = (share: number, digits = 0): string => `${(share * 100).toFixed(digits)} %`

const rate = (value: number): string => number(value, value < 1000 ? 1 : 0)

const compared = ({ ratio, p99, p99Ratio }: Row): ReadonlyArray<string> => [
  ratio.median.toFixed(2),
  `${ratio.min.toFixed(2)}–${ratio.max.toFixed(2)}`,
  p99 === null ? "" : p99.median.toFixed(1),
  p99Ratio === null ? "" : p99Ratio.median.toFixed(2)
]

const milliseconds = (figure: { readonly median: number } | undefined | null): string => figure?.median.toFixed(2) ?? ""

/** At a given rate. */
const latencies = ({ added, p50, p99 }: Row): ReadonlyArray<string> => [
  milliseconds(p50),
  milliseconds(added?.p50),
  milliseconds(p99),
  milliseconds(added?.p99)
]

const row = (figures: Row, middle: (row: Row) => ReadonlyArray<string>): string => {
  const { contender, perSecond, gc, cpuMicros, serverBusy } = figures
  return line([
    `  ${contender}`,
    rate(perSecond.median),
    ...middle(figures),
    percent(gc, 1),
    number(cpuMicros, 1),
    percent(serverBusy)
  ])
}

const mebibytes = (bytes: number): string => `${number(bytes / 2 ** 20, 1)} MiB`

const value = (check: Check, figure: number): string => {
  switch (check.unit) {
    case "ratio":
      return figure.toFixed(2)
    case "share":
      return percent(figure, 1)
    case "micros":
      return `${figure.toFixed(2)} µs`
    case "bytes":
      return `${number(figure)} B`
    case "mebibytes":
      return mebibytes(figure)
  }
}

const relations = { ">=": "≥", "<=": "≤", "<": "<" } as const

const verdict = (check: Check): string =>
  `  ${check.ok ? "ok   " : "BELOW"} ${check.id.padEnd(21)} ${value(check, check.value).padStart(8)} ${
    relations[check.relation]
  } ${value(check, check.bound).padEnd(7)}  ${check.says}`.trimEnd()

export const head = ({ cpu, cores, memoryGiB, platform, node, date }: Machine, how: string): ReadonlyArray<string> => [
  `Millrace benchmark, ${date}`,
  `${cpu}, ${cores} cores, ${memoryGiB} GiB, ${platform}, Node ${node}`.slice(0, width),
  how
]

/** Cores that other programs may use before the figures count as disturbed. */
const quiet = 0.2

export const scenario = ({ scenario, rows, missing, disturbance }: Measured): ReadonlyArray<string> => {
  const p99 = scenario.timed ? ["p99 ms", "ratio"] : ["", ""]
  const paced = scenario.pace !== undefined
  return [
    scenario.title,
    line([
      "",
      scenario.work === "large" ? "files/s" : "req/s",
      ...(paced ? ["p50 ms", "added", "p99 ms", "added"] : ["ratio", "min–max", ...p99]),
      "gc",
      "µs of cpu",
      "server"
    ]),
    ...rows.map((figures) => row(figures, paced ? latencies : compared)),
    ...missing.map((name) => `  ${name.padEnd(widths[0] - 2)}not installed`),
    ...(disturbance > quiet
      ? [`  Rough figures: other programs used ${disturbance.toFixed(1)} cores of this machine meanwhile.`]
      : [])
  ]
}

export const streams = ({ bytes, rows, scenario }: Streamed): ReadonlyArray<string> => [
  `${scenario.title} of ${number(bytes / 2 ** 20)} MiB`,
  streamLine(["", "MiB/s", "most heap", "most memory", "more than warm"]),
  ...rows.map(({ contender, mebibytesPerSecond, ...memory }) =>
    streamLine([
      `  ${contender}`,
      number(mebibytesPerSecond),
      ...[memory.heap, memory.rss, memory.growth].map((bytes) => (bytes === null ? "" : mebibytes(bytes)))
    ])
  )
]

const streamLine = ([name = "", ...cells]: ReadonlyArray<string>): string =>
  `${name.padEnd(widths[0])}${cells.map((cell, i) => cell.padStart(i === 0 ? 9 : 16)).join("")}`.trimEnd()

export const floors = (checks: ReadonlyArray<Check>): ReadonlyArray<string> => ["Floors", ...checks.map(verdict)]

/** Why the run failed: the floors that were missed, by name. */
export const missed = (checks: ReadonlyArray<Check>): string => {
  const below = checks.filter(({ ok }) => !ok).map(({ id }) => id)
  return below.length === 0 ? "All floors are met." : `Missed: ${below.join(", ")}.`
}

/** The tables as a page that can be kept. */
export const page = (lines: ReadonlyArray<string>): string => `# The benchmark

What \`npm run bench\` has printed; \`npm run bench -- --save docs/benchmark.md\` writes this page anew. Figures of one machine
mean little for another: look at the ratios, and run it on yours.

\`\`\`text
${lines.join("\n").trimEnd()}
\`\`\`
`
