/**
 * Which origin and which path a request goes to.
 *
 * Joining is by path segments: under `http://h/api`, each of `users`, `/users` and (with `/api/` as the base) `/users`
 * is `http://h/api/users`. A path cannot climb above the base, however its dots are written. An absolute URL passes
 * through. Query strings merge: that of the base, then that of the URL, then the URL parameters.
 */
import type { HttpClientRequest } from "effect/http/HttpClientRequest"
import * as UrlParams from "effect/http/UrlParams"

export interface Resolved {
  readonly origin: string
  /** Path and query, ready for the request line. */
  readonly path: string
}

export interface Unresolved {
  readonly origin: undefined
  readonly path: undefined
  readonly reason: string
}

export interface Base {
  readonly origin: string
  /** Without a trailing slash: `""` or `/api`. */
  readonly path: string
  /** Without the question mark. */
  readonly query: string
}

export const fromUrl = (url: URL): Base => ({
  origin: url.origin,
  path: url.pathname.replace(/\/+$/, ""),
  query: url.search.slice(1)
})

const scheme = /^[a-z][a-z\d+.-]*:\/\//i

const slash = 47
const dot = 46

/** What stands in a path as it is. All else, and every dot that could be a dot segment, takes the slow way. */
const plain = new Uint8Array(128)
for (const char of "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~!$&'()*+,;=@/") {
  plain[char.charCodeAt(0)] = 1
}

/** Whether the URL standard would leave the path as it is. */
const isPlain = (path: string): boolean => {
  let previous = slash
  for (let i = 0; i < path.length; i++) {
    const code = path.charCodeAt(i)
    if (code > 127 || plain[code] === 0 || (code === dot && previous === slash)) return false
    previous = code
  }
  return true
}

/** Goes as it is. The URL standard would encode its apostrophes, which RFC 3986 (2.2) takes for another query. */
const plainQuery = /^[\x21\x24-\x3b\x3d\x3f-\x7e]*$/

const unresolved = (reason: string): Unresolved => ({ origin: undefined, path: undefined, reason })

export const resolve = (base: Base | undefined, request: HttpClientRequest): Resolved | Unresolved => {
  const { url } = request
  if (base !== undefined && isPlain(url)) {
    return { origin: base.origin, path: withQuery(join(base.path, url), base.query, request) }
  }
  if (scheme.test(url)) return resolveAbsolute(url, request)
  if (base === undefined) return unresolved("its URL is relative and the pool has no `baseUrl`")
  return resolveRelative(base, url, request)
}

const resolveAbsolute = (url: string, request: HttpClientRequest): Resolved | Unresolved => {
  const parsed = URL.canParse(url) ? new URL(url) : undefined
  if (parsed === undefined) return unresolved("its URL cannot be parsed")
  if (parsed.protocol !== "http:" && parsed.protocol !== "https:") {
    return unresolved(`its URL has the scheme ${parsed.protocol}, not http: or https:`)
  }
  if (parsed.username !== "" || parsed.password !== "") {
    return unresolved("its URL holds credentials; send them in an `authorization` header")
  }
  const query = split(split(url, "#")[0], "?")[1]
  return {
    origin: parsed.origin,
    path: withQuery(parsed.pathname, plainQuery.test(query) ? query : parsed.search.slice(1), request)
  }
}

const resolveRelative = (base: Base, url: string, request: HttpClientRequest): Resolved | Unresolved => {
  // The URL standard drops these before it looks for dot segments: one between two dots must not hide them.
  const [beforeHash] = split(url.replaceAll(/[\t\n\r]/g, ""), "#")
  const [path, query] = split(beforeHash, "?")
  const segments: Array<string> = []
  for (const segment of path.split(/[/\\]/)) {
    const dots = segment.replaceAll(/%2e/gi, ".")
    if (dots === "..") {
      if (segments.pop() === undefined) return unresolved("its path climbs above the pool's `baseUrl`")
    } else if (dots !== "." && (dots !== "" || segments.length > 0)) segments.push(segment)
  }
  const slashAtEnd = segments.length === 0 ? path !== "" : /(^|[/\\])(\.|%2e){1,2}$/i.test(path)
  const joined = join(base.path, segments.join("/") + (slashAtEnd ? "/" : ""))
  // The standard's percent-encoding; without the marks at the end it would drop a space there, and `.. ` would climb.
  const encoded = new URL(`${base.origin}${joined}?${query}#`)
  const encodedQuery = plainQuery.test(query) ? query : encoded.search.slice(1)
  return { origin: base.origin, path: withQuery(encoded.pathname, merge(base.query, encodedQuery), request) }
}

const split = (text: string, mark: string): readonly [string, string] => {
  const index = text.indexOf(mark)
  return index === -1 ? [text, ""] : [text.slice(0, index), text.slice(index + 1)]
}

const join = (base: string, path: string): string => {
  let start = 0
  while (path.charCodeAt(start) === slash) start++
  const rest = start === 0 ? path : path.slice(start)
  if (rest === "") return base === "" ? "/" : path === "" ? base : `${base}/`
  return `${base}/${rest}`
}

const merge = (a: string, b: string): string => (a === "" ? b : b === "" ? a : `${a}&${b}`)

const withQuery = (path: string, query: string, request: HttpClientRequest): string => {
  const params = request.urlParams.params.length === 0 ? "" : UrlParams.toString(request.urlParams)
  const merged = merge(query, params)
  return merged === "" ? path : `${path}?${merged}`
}
