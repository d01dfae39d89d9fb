/** undici's pool without its promises and streams. */
import { Pool } from "undici"
import { type Contender, connections } from "../Work.ts"
import { byDispatch } from "./Dispatch.ts"

export const contender: Contender = async (origin) => {
  const pool = new Pool(origin, { connections })
  return (work) => byDispatch(() => pool, work)
}
