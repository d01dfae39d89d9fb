/** Apart from `MockPool`, which exports it, because the server in the mock makes it. */
import * as Data from "effect/Data"

const section = (title: string, entries: ReadonlyArray<string>): string =>
  entries.map((entry) => `\n${title}: ${entry}`).join("")

/**
 * What was sent is not what the test expected: each with the nearest route and what differs. The values of headers,
 * query parameters and members whose names look secret are not in it.
 *
 * @category errors
 * @since 0.1.0
 */
export class MockMismatch extends Data.TaggedError("MockMismatch")<{
  /** Requests that no route answers. */
  readonly unexpected: ReadonlyArray<string>
  /** Routes that were answered less often than they must be. */
  readonly unused: ReadonlyArray<string>
  /** Routes whose function threw. */
  readonly broken: ReadonlyArray<string>
}> {
  override get message(): string {
    return `What was sent is not what the mock expects.${section("Unexpected", this.unexpected)}${section(
      "Unused",
      this.unused
    )}${section("Threw", this.broken)}`
  }
}
