/** The processes that serve: the server that clients are measured with, and those that are measured themselves. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Child from "./Child.ts"
import type { Began, Figures, Memory, Question, SubjectArguments } from "./subject.ts"

export interface Server {
  readonly origin: string
  /** What it used of the machine since it was last asked. */
  readonly figures: Effect.Effect<Figures, Child.ChildError>
}

export interface Subject extends Server {
  readonly memory: Effect.Effect<Memory, Child.ChildError>
}

export type UpstreamQuestion =
  | Extract<Question, { readonly _tag: "Figures" }>
  /** Whether to look for the next request instead of sleeping until it comes. */
  | { readonly _tag: "Stay"; readonly awake: boolean }

/** The server that clients are measured with. */
export interface Upstream extends Server {
  /** Keeps it awake until the scope ends. */
  readonly awake: Effect.Effect<void, Child.ChildError, Scope.Scope>
}

const figures: Question = { _tag: "Figures" }
const memory: Question = { _tag: "Memory" }

const originOf = (port: number): string => `http://127.0.0.1:${port}`

export const startServer: Effect.Effect<Upstream, Child.ChildError, Scope.Scope> = Effect.gen(function* () {
  const child = yield* Child.start("the server", new URL("./server.ts", import.meta.url))
  const { port } = yield* child.next<{ readonly port: number }>()
  const stay = (awake: boolean) => {
    const question: UpstreamQuestion = { _tag: "Stay", awake }
    return child.ask<Figures>(question)
  }
  return {
    origin: originOf(port),
    figures: child.ask<Figures>(figures),
    awake: Effect.asVoid(Effect.acquireRelease(stay(true), () => Effect.ignore(stay(false))))
  }
})

/** Nothing where the program is not installed. */
export const startSubject = (
  name: string,
  upstream: string
): Effect.Effect<Subject | undefined, Child.ChildError, Scope.Scope> =>
  Effect.gen(function* () {
    const args: SubjectArguments = { name, upstream }
    const child = yield* Child.start(name, new URL("./subject.ts", import.meta.url), {
      args: [JSON.stringify(args)],
      // What a peer's code is warned of is not for the table.
      execArgv: ["--no-deprecation"]
    })
    const began = yield* child.next<Began>()
    if (began._tag === "Missing") return undefined
    return { origin: originOf(began.port), figures: child.ask<Figures>(figures), memory: child.ask<Memory>(memory) }
  })
