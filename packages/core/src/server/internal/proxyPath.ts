/**
 * The path that is asked of an upstream.
 *
 * It goes on as it came: nothing is decoded, so `%2F` stays what it is and `%252e` stays text. Dot segments are resolved
 * here (RFC 3986, 5.2.4), before a prefix is taken off and before the base path of the upstream is put in front, so that
 * none of them can lead out of it. What only some servers read as a dot segment (`..%2f`, `..;`, `..\`) has no honest use
 * and is refused.
 */

export interface Target {
  /** Begins with a slash. */
  readonly path: string
  /** Without its question mark, `undefined` if there is none. */
  readonly query: string | undefined
}

export interface Refusal {
  readonly status: 400 | 404
  readonly detail: string
}

export const isRefusal = (target: Target | Refusal): target is Refusal => "status" in target

const bad = (detail: string): Refusal => ({ status: 400, detail })

const climbs = bad("The path climbs above its root.")

/** May hold a dot segment, in whatever way it is written, or begins with several slashes. */
const suspicious = /^\/\/|(^|\/)(\.|%2e)|[\\;]|%2f|%5c/i

/** What may stand for a slash where a path is read carelessly. */
const otherSlash = /%2f|%5c|\\/i

/** Without dot segments and without empty segments at its begin. */
const normalize = (path: string): string | Refusal => {
  if (!suspicious.test(path)) return path
  const segments: Array<string> = []
  let directory = false
  const all = path.split("/").slice(1)
  for (const [index, segment] of all.entries()) {
    const plain = segment.replaceAll(/%2e/gi, ".")
    directory = plain === "." || plain === ".." || plain === ""
    if (plain === "..") {
      if (segments.pop() === undefined) return climbs
    } else if (plain !== "." && (plain !== "" || segments.length > 0)) {
      if (plain !== "" || index < all.length - 1) segments.push(segment)
    }
    if (plain !== ".." && plain.split(otherSlash).some((piece) => piece.split(";")[0] === "..")) return climbs
  }
  return segments.length === 0 ? "/" : `/${segments.join("/")}${directory ? "/" : ""}`
}

const hex = (code: number): string => `%${code.toString(16).toUpperCase().padStart(2, "0")}`

/** A byte of the request line is a character here; beyond Latin-1 it can only be text. */
const encode = (text: string): string =>
  // eslint-disable-next-line no-control-regex
  text.replaceAll(/[\x7f-\xff]/g, (byte) => hex(byte.charCodeAt(0))).replaceAll(/[^\0-\x7f]+/gu, encodeURIComponent)

/** What a URL parser would change the meaning of, or encode anyway. */
const encodePath = (path: string): string =>
  encode(path).replaceAll(/["<>?\\^`{|}]/g, (character) => hex(character.charCodeAt(0)))

/** Takes the prefix off, whole segments only; `undefined` when the path does not begin with it. */
const strip = (path: string, prefix: string): string | undefined => {
  if (!path.startsWith(prefix)) return undefined
  const rest = path.slice(prefix.length)
  return rest === "" ? "/" : rest.startsWith("/") ? rest : undefined
}

/** Where `url`, the target of a request in origin form, leads. */
export const resolve = (
  url: string,
  stripPrefix: string,
  rewrite: ((path: string) => string) | undefined
): Target | Refusal => {
  if (!url.startsWith("/")) return bad("The target of the request is not a path.")
  if (/[#\0-\x20]/.test(url)) return bad("The target of the request holds characters that no URL has.")
  const mark = url.indexOf("?")
  const came = mark === -1 ? url : url.slice(0, mark)
  const query = mark === -1 ? undefined : encode(url.slice(mark + 1))
  const path = normalize(came)
  if (typeof path !== "string") return path
  const rest = strip(path, stripPrefix)
  if (rest === undefined) return { status: 404, detail: "Nothing is served under this path." }
  if (rewrite === undefined) {
    // What is left of `/api//x` without `/api` must not begin with two slashes, either.
    return { path: encodePath(rest.replace(/^\/+/, "/")), query }
  }
  const rewritten = rewrite(rest)
  const again = normalize(rewritten.startsWith("/") ? rewritten : `/${rewritten}`)
  return typeof again === "string" ? { path: encodePath(again).replaceAll("#", "%23"), query } : again
}
