import { assert, describe, it } from "@effect/vitest"
import * as Schema from "effect/Schema"
import { Line, type Member } from "../../../src/model/internal/line.ts"

class Person implements Member<Person> {
  previous: Person | undefined = undefined
  next: Person | undefined = undefined
  readonly number: number
  constructor(number: number) {
    this.number = number
  }
}

const forwards = (line: Line<Person>): ReadonlyArray<number> => {
  const found: Array<number> = []
  for (let p = line.head; p !== undefined; p = p.next) found.push(p.number)
  return found
}

/** From the last to the first, by the links that `remove` needs. */
const backwards = (line: Line<Person>): ReadonlyArray<number> => {
  let last = line.head
  while (last?.next !== undefined) last = last.next
  const found: Array<number> = []
  for (let p = last; p !== undefined; p = p.previous) found.push(p.number)
  return found
}

describe("line", () => {
  it("is empty at first", () => {
    const line = new Line<Person>()
    assert.strictEqual(line.size, 0)
    assert.isUndefined(line.head)
  })

  // A number below 3 pushes; any other removes the member it points at, from wherever it stands.
  it.prop(
    "any interleaving of push and remove keeps the order and the size",
    [Schema.Array(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 9 })))],
    ([steps]) => {
      const line = new Line<Person>()
      const model: Array<Person> = []
      let made = 0
      for (const step of steps) {
        const leaves = step < 3 ? undefined : model[(step * 7) % Math.max(model.length, 1)]
        if (leaves === undefined) {
          const person = new Person(made++)
          model.push(person)
          line.push(person)
        } else {
          model.splice(model.indexOf(leaves), 1)
          line.remove(leaves)
          assert.isUndefined(leaves.next)
          assert.isUndefined(leaves.previous)
        }
        const numbers = model.map((person) => person.number)
        assert.deepStrictEqual(forwards(line), numbers)
        assert.deepStrictEqual(backwards(line), numbers.toReversed())
        assert.strictEqual(line.size, model.length)
      }
    },
    { arbitrary: { runs: 200 } }
  )

  it("takes a member that has left again, at the end", () => {
    const line = new Line<Person>()
    const [a, b] = [new Person(0), new Person(1)]
    line.push(a)
    line.push(b)
    line.remove(a)
    line.push(a)
    assert.deepStrictEqual(forwards(line), [1, 0])
  })
})
