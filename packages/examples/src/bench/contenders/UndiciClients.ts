/**
 * Eight undici clients in turn, by dispatch: the ceiling. It has no waiting line, so a slow answer holds up what stands
 * behind it; that is why it is a ceiling and not a pool.
 */
import { Client } from "undici"
import { type Contender, connections } from "../Work.ts"
import { byDispatch } from "./Dispatch.ts"

export const contender: Contender = async (origin) => {
  const clients = Array.from({ length: connections }, () => new Client(origin))
  let turn = 0
  return (work) => byDispatch(() => clients[turn++ % connections]!, work)
}
