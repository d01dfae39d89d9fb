/** The command line. */
import { parseArgs } from "node:util"

export type Command =
  | { readonly _tag: "Help" }
  | { readonly _tag: "Serve"; readonly file: string | undefined }
  | { readonly _tag: "Wrong"; readonly problem: string }

export const usage = `The tasks service: a REST API for work that takes minutes.

  npm run tasks                     with the embedded database, in the folder .tasks
  npm run tasks -- --config FILE    with settings from a YAML or JSON file

  --config FILE   see packages/examples/src/tasks/config/config.yaml for all settings;
                  the environment wins over the file: TASKS_APP_SEMAPHORE=4
  --help          print this

It runs until Ctrl-C (or SIGTERM), then finishes its tasks or hands them back.
Exit status: 0 stopped in order, 1 could not start, 2 wrong arguments.
`

export const parse = (args: ReadonlyArray<string>): Command => {
  try {
    const { values } = parseArgs({
      args: [...args],
      options: { config: { type: "string" }, help: { type: "boolean", short: "h", default: false } }
    })
    return values.help ? { _tag: "Help" } : { _tag: "Serve", file: values.config }
  } catch (error) {
    return { _tag: "Wrong", problem: error instanceof Error ? error.message : String(error) }
  }
}
