import { assert, describe, it } from "@effect/vitest"
import { Schema } from "effect"
import { after, type Answer, type Standing, unproven } from "../../../src/server/internal/healthRule.ts"

const play = (answers: ReadonlyArray<Answer>, limits = { rise: 2, fall: 3 }): ReadonlyArray<Standing> => {
  let standing = unproven
  return answers.map((answer) => (standing = after(standing, answer, limits)))
}

const verdicts = (...answers: ReadonlyArray<Answer>) => play(answers).map(({ verdict }) => verdict)

describe("healthRule", () => {
  it("the first answer decides", () => {
    assert.deepStrictEqual(verdicts("good"), ["OK"])
    assert.deepStrictEqual(verdicts("slow"), ["Warn"])
    assert.deepStrictEqual(verdicts("bad"), ["Warn"])
    assert.strictEqual(play(["bad"], { rise: 2, fall: 1 })[0]?.verdict, "KO")
  })

  it("a failure has to be made good by rise answers in a row", () => {
    assert.deepStrictEqual(verdicts("good", "bad", "good", "good"), ["OK", "Warn", "Warn", "OK"])
    assert.deepStrictEqual(verdicts("bad", "bad", "bad", "good", "bad", "good", "good").slice(2), [
      "KO",
      "KO",
      "KO",
      "KO",
      "OK"
    ])
  })

  it("what is slow is neither well nor out of order", () => {
    assert.deepStrictEqual(verdicts("good", "slow", "good"), ["OK", "Warn", "OK"])
    assert.deepStrictEqual(verdicts("bad", "bad", "bad", "slow", "slow", "good").slice(2), ["KO", "KO", "Warn", "OK"])
    assert.deepStrictEqual(
      play(["good", "good"], { rise: 3, fall: 3 }).map(({ verdict }) => verdict),
      ["OK", "OK"]
    )
  })

  const answers = Schema.Array(Schema.Literals(["good", "slow", "bad"]))
  const limits = Schema.Struct({
    rise: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 5 })),
    fall: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 5 }))
  })

  it.prop(
    "laws: fall bad ones in a row are KO, rise good ones OK, and only those leave KO",
    [answers, limits],
    ([list, of]) => {
      const played = play(list, of)
      played.forEach((standing, index) => {
        const last = (count: number) => list.slice(Math.max(0, index + 1 - count), index + 1)
        const all = (count: number, allowed: ReadonlyArray<Answer>) =>
          index + 1 >= count && last(count).every((answer) => allowed.includes(answer))
        if (all(of.fall, ["bad"])) assert.strictEqual(standing.verdict, "KO")
        if (all(of.rise, ["good"])) assert.strictEqual(standing.verdict, "OK")
        if (list[index] === "bad" || list[index] === "slow") assert.notStrictEqual(standing.verdict, "OK")
        const before = played[index - 1]?.verdict
        if (before === "KO" && standing.verdict !== "KO") assert.isTrue(all(of.rise, ["good", "slow"]))
        if (before !== "KO" && standing.verdict === "KO") assert.isTrue(all(of.fall, ["bad"]))
        assert.isTrue(standing.rises === 0 || standing.falls === 0)
      })
    }
  )
})
