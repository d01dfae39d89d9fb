/**
 * What is wrong with options.
 *
 * @since 0.1.0
 */
import * as Data from "effect/Data"

/**
 * Every invalid option at once. A path is the option's name, or where it came from: `HTTP_CLIENT_SIZE`,
 * `httpClient.size`. No message repeats a value that could be secret.
 *
 * @category errors
 * @since 0.1.0
 */
export class ConfigError extends Data.TaggedError("ConfigError")<{
  readonly problems: ReadonlyArray<{ readonly path: string; readonly message: string }>
}> {
  override get message(): string {
    const lines = this.problems.map(({ message, path }) => `\n- ${path}: ${message}`)
    return `The configuration is not valid:${lines.join("")}`
  }
}
