/**
 * Makes the OpenAPI document say what the schemas of the API cannot: that some texts are numbers, and what a parameter or a
 * header is for, where readers look for it.
 */
import * as Predicate from "effect/Predicate"

/** Parameters and headers travel as text; a reader wants to know which ones are numbers. */
const integers: ReadonlyMap<string, object> = new Map([
  ["limit", { type: "integer", minimum: 1, maximum: 1000, default: 100, examples: [20] }],
  ["retry-after", { type: "integer", minimum: 1, examples: [5] }]
])

/** Says that there is no security, which makes pages show a button for it. */
const isEmptySecurity = (key: string, value: unknown): boolean =>
  (key === "security" || key === "securitySchemes") &&
  typeof value === "object" &&
  Object.keys(value ?? {}).length === 0

const described = (name: string, { description, ...schema }: Readonly<Record<string, unknown>>) => {
  const shown = integers.get(name) ?? schema
  return {
    description,
    example: "examples" in shown && Array.isArray(shown.examples) ? shown.examples[0] : undefined,
    schema: shown
  }
}

const improve = (value: unknown, key: string): unknown => {
  if (Array.isArray(value)) return value.map((item: unknown) => improve(item, key))
  if (!Predicate.isObject(value)) return value
  const node = improved(Object.fromEntries(Object.entries(value)))
  const { name = key, schema } = node
  // Of all objects with a schema, only parameters and headers may be required.
  if (!("required" in node) || !Predicate.isObject(schema)) return node
  return { ...node, ...described(String(name), Object.fromEntries(Object.entries(schema))) }
}

export const improved = (spec: Readonly<Record<string, unknown>>): Record<string, unknown> =>
  Object.fromEntries(
    Object.entries(spec)
      .filter(([key, value]) => !isEmptySecurity(key, value))
      .map(([key, value]) => [key, improve(value, key)])
  )
