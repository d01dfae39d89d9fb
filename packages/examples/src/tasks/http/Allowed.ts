/** Which methods a path has, for requests that no route takes. */
import * as FindMyWay from "effect/http/FindMyWay"

export interface Route {
  readonly method: string
  readonly path: FindMyWay.PathInput
}

/** Gives the methods of a URL's path, in the order of the routes; none: there is nothing at this path. */
export const make = (routes: Iterable<Route>): ((url: string) => ReadonlyArray<string>) => {
  const byPath = new Map<FindMyWay.PathInput, Array<string>>()
  for (const { method, path } of routes) {
    const methods = byPath.get(path) ?? []
    byPath.set(path, methods)
    methods.push(method)
    // Whoever may read may ask for the headers only.
    if (method === "GET") methods.push("HEAD")
  }
  // Longer parameters than the router takes: an id that is too long is a bad id, not an unknown path.
  const paths = FindMyWay.make<ReadonlyArray<string>>({ maxParamLength: Infinity })
  for (const [path, methods] of byPath) paths.on("GET", path, methods)
  const find = (url: string) => paths.find("GET", url)?.handler
  // A part that cannot be decoded is a bad part of a path, not another path.
  return (url) => find(url) ?? find(url.replaceAll("%", "_")) ?? []
}
