/** got, over a keep-alive agent with eight sockets. */
import got from "got"
import { Agent } from "node:http"
import { type Contender, connections } from "../Work.ts"

export const contender: Contender = async (origin) => {
  const agent = new Agent({ keepAlive: true, maxSockets: connections })
  const client = got.extend({ agent: { http: agent }, retry: { limit: 0 } })
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
          : async () => (await client(url, options).buffer()).byteLength
    }
  }
}
