import { assert, describe, it } from "@effect/vitest"
import { acts } from "../../src/tour/Tour.ts"
import { type Measured, notes, tables } from "../../src/tour/Measure.ts"
import * as Report from "../../src/tour/Report.ts"

const long = "a word that goes on and on ".repeat(20).trim()

const table: Report.Table = {
  title: long,
  columns: ["client", "one", "two"],
  rows: [
    ["short", 1, 22],
    [long, 333, "4 %"]
  ]
}

const all = (report: Report.Report): string =>
  [
    report.headline(long),
    report.paragraph(long),
    report.table(table),
    report.claim({ text: long, holds: true, seen: "1 2 3" }),
    report.claim({ text: "unbroken".repeat(30), holds: false, seen: long })
  ].join("")

const widest = (text: string): number => Math.max(...text.split("\n").map((line) => line.length))

describe("Report", () => {
  it.each([undefined, 60, 80, 100, 200])("fits a terminal of %j columns, and 100", (columns) => {
    assert.isAtMost(widest(all(Report.make({ columns }))), Math.min(columns ?? 100, 100))
  })

  it("lines figures up", () => {
    const lines = Report.make({ columns: 60 })
      .table({ ...table, title: "t" })
      .split("\n")
    const [, , , first, second] = lines
    assert.isTrue(first!.endsWith("    1   22"))
    assert.isTrue(second!.endsWith("  333  4 %"))
  })

  it("says everything without colour that it says with it", () => {
    const plain = all(Report.make())
    const coloured = all(Report.make({ colour: true }))
    assert.notInclude(plain, "\x1b")
    assert.include(coloured, "\x1b[31mFAILED\x1b[0m")
    // oxlint-disable-next-line no-control-regex
    assert.strictEqual(coloured.replaceAll(/\x1b\[\d+m/g, ""), plain)
  })

  it("lets no control character of a server through", () => {
    const text = Report.make().table({ title: "t", columns: ["c"], rows: [["\x1b[31mred\x07"]] })
    assert.include(text, "?[31mred?")
  })

  it("shows the acts' own texts", () => {
    const report = Report.make()
    for (const act of acts) assert.isAtMost(widest(report.headline(act.title) + report.paragraph(act.claimed)), 100)
  })
})

const measured = (perInstance: Readonly<Record<string, number>> | null): Measured => ({
  url: "http://h/",
  header: perInstance === null ? null : "x-pod",
  clients: ["one keep-alive client", "Millrace, 64 slots"].map((label, i) => ({
    key: String(i),
    label,
    requests: 100,
    answered: 90,
    givenUp: i === 1,
    connections: i,
    statuses: { 200: 80, 503: 10 },
    errors: { "ConnectError(tcp)": 10 },
    perInstance
  }))
})

const options = { url: new URL("http://h/"), requests: 200, slots: 64 }

describe("Measure", () => {
  it("fits, whatever the instances are called and however many they are", () => {
    const many = Object.fromEntries(Array.from({ length: 500 }, (_, i) => [`${"n".repeat(300)}${i}`, i]))
    const report = Report.make()
    const text = tables(measured(many)).map(report.table).join("\n")
    assert.isAtMost(widest(text), 100)
    assert.include(text, "and 476 others")
    assert.isBelow(text.split("\n").length, 50)
  })

  it("says what it cannot tell", () => {
    const said = notes(measured(null), options).join("\n")
    assert.include(said, "Instances cannot be told apart")
    assert.include(said, "--by-header")
    assert.include(said, "10 ConnectError(tcp)")
    assert.include(said, "10 503")
    assert.include(said, "given up after 100 requests")
    assert.strictEqual(tables(measured(null)).length, 1)
    assert.include(notes(measured(null), { ...options, byHeader: "x-no" }).join("\n"), "no answer has the header x-no")
  })
})
