import { describe, expect, it } from "@effect/vitest"
import * as Bench from "../../src/bench/Arguments.ts"
import * as Soak from "../../src/bench/soak/Arguments.ts"

describe("the benchmark's command line", () => {
  it("has defaults, and judges", () => {
    const command = Bench.parse([])
    expect(command).toMatchObject({ _tag: "Bench", json: false, judged: true })
    expect(command._tag === "Bench" && command.plan.rounds).toBeGreaterThanOrEqual(5)
  })

  it("takes rounds, seconds and a pattern", () => {
    const command = Bench.parse(["--rounds", "7", "--seconds", "0.25", "--only", "^get", "--json"])
    expect(command).toMatchObject({ _tag: "Bench", json: true, only: /^get/i, plan: { rounds: 7, seconds: 0.25 } })
  })

  it("does not judge a quick run", () => {
    expect(Bench.parse(["--quick"])).toMatchObject({ _tag: "Bench", judged: false })
  })

  it("keeps the tables in a file where it is told one", () => {
    expect(Bench.parse(["--save", "page.md"])).toMatchObject({ _tag: "Bench", save: "page.md" })
    expect(Bench.parse([])).toMatchObject({ _tag: "Bench", save: undefined })
  })

  it("says everything that is wrong", () => {
    const command = Bench.parse(["--rounds", "2", "--seconds", "x", "--only", "(", "--save", ""])
    expect(command._tag === "Wrong" && command.problems).toHaveLength(4)
    expect(Bench.parse(["--fast"])._tag).toBe("Wrong")
  })
})

describe("the soak's command line", () => {
  it("has defaults", () => {
    expect(Soak.parse([])).toMatchObject({ _tag: "Soak", minutes: 10, callers: 512 })
  })

  it("says everything that is wrong", () => {
    const command = Soak.parse(["--minutes", "0", "--callers", "1.5", "--seed", "-1"])
    expect(command._tag).toBe("Wrong")
    const several = Soak.parse(["--minutes=0", "--callers=1.5", "--slots=0"])
    expect(several._tag === "Wrong" && several.problems).toHaveLength(3)
  })
})
