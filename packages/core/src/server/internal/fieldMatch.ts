/**
 * Which servers are meant by a name, a bind or an expose.
 *
 * - `pattern` is the whole text, whatever its case. A bind also matches however else it is written, and an expose with or
 *   without the slash at its end, or by its host and port alone.
 * - A bind is listed, and searched by `regex`, in its normalised form.
 * - `regex` is found anywhere in the text, as JavaScript has it; its case matters. One that is no regular expression fails.
 * - With both, one of them is enough. With neither, or with empty ones, no server is meant.
 */
import * as Result from "effect/Result"
import { ServerPoolError } from "../ServerError.ts"
import { isBind, parse } from "./bind.ts"

/** What servers are found by, and listed as. */
export type Field = "name" | "bind" | "expose"

/** What is known of a server here. */
export interface Described {
  readonly name: string
  readonly bind: { readonly text: string; readonly key: string }
  readonly expose: URL
}

const withoutSlash = (url: URL): string => url.href.replace(/^([^/]*\/\/[^/]*)\/$/, "$1")

/** What `list` shows of a server. */
export const textOf = (server: Described, field: Field): string => {
  switch (field) {
    case "name":
      return server.name
    case "bind":
      return server.bind.key
    case "expose":
      return withoutSlash(server.expose)
  }
}

const textsOf = (server: Described, field: Field): ReadonlyArray<string> => {
  const text = textOf(server, field)
  switch (field) {
    case "name":
      return [text]
    case "bind":
      return [text, server.bind.text]
    case "expose":
      return [text, server.expose.href, server.expose.host]
  }
}

const never = (): boolean => false

const compile = (regex: string | RegExp): Result.Result<(text: string) => boolean, ServerPoolError> => {
  if (regex === "") return Result.succeed(never)
  return Result.try({
    try: () => {
      // Without `g` and `y`, which make an expression remember where it was.
      const found =
        typeof regex === "string" ? new RegExp(regex) : new RegExp(regex.source, regex.flags.replace(/[gy]/g, ""))
      return (text) => found.test(text)
    },
    catch: (cause) => new ServerPoolError({ reason: "ParamEmpty", servers: [], detail: `regex: ${String(cause)}` })
  })
}

/** Says of servers whether they are meant. */
export const matcher = (
  field: Field,
  pattern?: string,
  regex?: string | RegExp
): Result.Result<(server: Described) => boolean, ServerPoolError> =>
  Result.map(compile(regex ?? ""), (found) => {
    const wanted = (pattern ?? "").toLowerCase()
    const parsed = field === "bind" && wanted !== "" ? parse(wanted) : undefined
    const key = parsed !== undefined && isBind(parsed) ? parsed.key : undefined
    return (server) => {
      const texts = textsOf(server, field)
      if (wanted !== "" && texts.some((text) => text.toLowerCase() === wanted)) return true
      return (key !== undefined && key === server.bind.key) || found(textOf(server, field))
    }
  })
