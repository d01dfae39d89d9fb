import * as Data from "effect/Data"

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
      ? `The storage cannot be reached (${this.operation}): see that the database runs and that its address is right`
      : `The storage refused ${this.operation}: its own log says why`
  }
}
