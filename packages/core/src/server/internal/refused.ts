/** Why a pool does not do what was asked, where nothing else has failed: a cause in its errors. */
import * as Data from "effect/Data"

export class Refused extends Data.TaggedError("Refused")<{ readonly message: string; readonly cause?: unknown }> {}

export const refused = (message: string): Refused => new Refused({ message })
