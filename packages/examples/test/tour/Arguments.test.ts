import { assert, describe, it } from "@effect/vitest"
import { parse, usage } from "../../src/tour/Arguments.ts"
import { maxColumns } from "../../src/tour/Report.ts"

const problems = (...args: ReadonlyArray<string>): ReadonlyArray<string> => {
  const command = parse(args)
  return command._tag === "Wrong" ? command.problems : []
}

describe("Arguments", () => {
  it("plays the tour without arguments", () => {
    assert.deepStrictEqual(parse([]), { _tag: "Tour", json: false })
    assert.deepStrictEqual(parse(["--json"]), { _tag: "Tour", json: true })
  })

  it("measures a URL", () => {
    assert.deepStrictEqual(parse(["--url", "http://h:1/a?b"]), {
      _tag: "Measure",
      json: false,
      url: new URL("http://h:1/a?b"),
      requests: 200,
      slots: 8,
      byHeader: undefined
    })
    assert.deepStrictEqual(
      parse(["--json", "--url=https://h", "--requests", "10000", "--slots=3", "--by-header", "X-Pod"]),
      { _tag: "Measure", json: true, url: new URL("https://h"), requests: 10_000, slots: 3, byHeader: "x-pod" }
    )
  })

  it("helps whatever else is there", () => {
    assert.deepStrictEqual(parse(["--help"]), { _tag: "Help" })
    assert.deepStrictEqual(parse(["--nonsense", "-h"]), { _tag: "Help" })
    for (const line of usage.split("\n")) assert.isAtMost(line.length, maxColumns)
  })

  it("lists all that is wrong", () => {
    assert.deepStrictEqual(
      problems("--url", "ftp://h", "--requests", "0", "--slots", "many", "--by-header", "a b", "--fast", "-x", "extra"),
      [
        "--fast is not an option",
        "-x is not an option",
        '"extra" is not an option',
        "--url must begin with http:// or https://, not ftp:",
        '--requests must be a whole number from 1 to 10000, not "0"',
        '--slots must be a whole number from 1 to 64, not "many"',
        '--by-header "a b" is not a header name'
      ]
    )
  })

  it.each([
    [["--requests", "5"], "--requests goes with --url only"],
    [["--url"], "--url needs a value"],
    [["--url="], "--url needs a value"],
    [["--url", "--json"], "--url needs a value"],
    [["--url", "localhost"], '--url "localhost" is not a URL; write for example http://127.0.0.1:8080/'],
    [["--url", "http://u:p@h"], "--url must not hold a user name or a password"],
    [["--url", "http://h", "--url", "http://h"], "--url is given twice"],
    [["--url", "http://h", "--requests", "10001"], '--requests must be a whole number from 1 to 10000, not "10001"'],
    [["--url", "http://h", "--requests=-3"], '--requests must be a whole number from 1 to 10000, not "-3"'],
    [["--url", "http://h", "--slots", "65"], '--slots must be a whole number from 1 to 64, not "65"'],
    [["--json=yes"], "--json takes no value"]
  ])("refuses %j", (args, problem) => {
    assert.deepStrictEqual(problems(...args), [problem])
  })
})
