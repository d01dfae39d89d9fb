/**
 * ky, over undici's pool of eight: by itself fetch opens as many connections as there are callers. The fetch is that of
 * the same undici as the other rows', which it replaces for its whole process.
 */
import ky from "ky"
import { install, Pool, setGlobalDispatcher } from "undici"
import { type Contender, connections } from "../Work.ts"

export const contender: Contender = async (origin) => {
  install()
  setGlobalDispatcher(new Pool(origin, { connections }))
  const client = ky.create({ retry: 0, timeout: false })
  return (work) => {
    const url = origin + work.path
    const options =
      work.body === undefined
        ? { method: work.method }
        : { method: work.method, body: work.body, headers: { "content-type": "application/json" } }
    return {
      _tag: "Promise",
      send:
        work.read === "text"
          ? async () => (await client(url, options).text()).length
          : async () => (await client(url, options).arrayBuffer()).byteLength
    }
  }
}
