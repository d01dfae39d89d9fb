/** undici as its manual shows it: the reference, 1.00. */
import { Pool } from "undici"
import { type Contender, connections } from "../Work.ts"

export const contender: Contender = async (origin) => {
  const pool = new Pool(origin, { connections })
  return (work) => {
    const options = {
      method: work.method,
      path: work.path,
      body: work.body ?? null,
      headers: work.body === undefined ? {} : { "content-type": "application/json" }
    }
    return {
      _tag: "Promise",
      send:
        work.read === "text"
          ? async () => (await (await pool.request(options)).body.text()).length
          : async () => (await (await pool.request(options)).body.arrayBuffer()).byteLength
    }
  }
}
