/**
 * Says what is going on while it goes on. Silent unless somebody provides a place to say it.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"

export const Progress = Context.Reference<(text: string) => void>("@millrace/examples/tour/Progress", {
  defaultValue: () => () => undefined
})

export const say = (text: string): Effect.Effect<void> => Effect.map(Progress, (progress) => progress(text))
