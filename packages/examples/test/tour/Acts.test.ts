import { assert, describe, it } from "@effect/vitest"
import { UndiciConnector } from "@millrace/node"
import * as Effect from "effect/Effect"
import { breaker } from "../../src/tour/acts/Breaker.ts"
import { limit } from "../../src/tour/acts/Limit.ts"
import { retries } from "../../src/tour/acts/Retries.ts"
import { token } from "../../src/tour/acts/Token.ts"
import * as Report from "../../src/tour/Report.ts"

describe("the acts of policies", () => {
  it.live.each([retries, limit, breaker, token])(
    "$key: its claims hold, and a terminal of 80 columns shows them",
    (act) =>
      Effect.gen(function* () {
        const { claims, figures, note = "", tables } = yield* act.play
        assert.deepStrictEqual(
          claims.filter(({ holds }) => !holds),
          []
        )
        assert.isAtLeast(claims.length, 3)
        // `NaN` and `Infinity` would be `null` in the JSON.
        assert.deepStrictEqual(JSON.parse(JSON.stringify(figures)), figures)
        const narrow = Report.make({ columns: 80 })
        const text = [...tables.map(narrow.table), narrow.paragraph(note), ...claims.map(narrow.claim)].join("\n")
        assert.notInclude(text, "...")
        for (const line of text.split("\n")) assert.isAtMost(line.length, 80)
      }).pipe(Effect.scoped, Effect.provide(UndiciConnector.layer)),
    20_000
  )
})
