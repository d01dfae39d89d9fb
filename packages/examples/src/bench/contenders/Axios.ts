/** axios, over a keep-alive agent with eight sockets. */
import axios from "axios"
import { Agent } from "node:http"
import { type Contender, connections } from "../Work.ts"

export const contender: Contender = async (origin) => {
  const httpAgent = new Agent({ keepAlive: true, maxSockets: connections })
  const client = axios.create({ baseURL: origin, httpAgent, proxy: false, transformResponse: [] })
  return (work) => {
    const config = {
      method: work.method,
      url: work.path,
      responseType: work.read === "text" ? ("text" as const) : ("arraybuffer" as const),
      ...(work.body === undefined ? {} : { data: work.body, headers: { "content-type": "application/json" } })
    }
    return {
      _tag: "Promise",
      send:
        work.read === "text"
          ? async () => (await client.request<string>(config)).data.length
          : async () => (await client.request<ArrayBuffer>(config)).data.byteLength
    }
  }
}
