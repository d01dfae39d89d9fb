import * as Data from "effect/Data"
import * as Predicate from "effect/Predicate"

/** What the system said, without the layers around it. */
export const why = (error: unknown): string =>
  Predicate.hasProperty(error, "cause") && error.cause instanceof Error
    ? why(error.cause)
    : error instanceof Error && error.message !== ""
      ? error.message
      : String(error)

/** What was asked of the storage did not happen, or nobody knows whether it did. */
export class StorageError extends Data.TaggedError("StorageError")<{
  /** `claim`, `list` … */
  readonly operation: string
  /** `unavailable`: it cannot be reached, or does not answer in time; it may be back soon. */
  readonly reason: "unavailable" | "refused"
  readonly cause: unknown
}> {
  override get message(): string {
    return this.reason === "unavailable"
      ? `The storage cannot be reached (${this.operation}: ${why(this.cause)}): see that it runs and that its address is right`
      : `The storage refused ${this.operation}: ${why(this.cause)}`
  }
}
