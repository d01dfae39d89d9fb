/** For measuring servers: a socket for each caller, by dispatch. The cheapest client that there is, so that it is not what is measured. */
import { Client } from "undici"
import { type Contender, sockets } from "../Work.ts"
import { byDispatch } from "./Dispatch.ts"

export const contender: Contender = async (origin) => {
  const clients = Array.from({ length: sockets }, () => new Client(origin))
  return (work) => {
    const each = clients.map((client) => byDispatch(() => client, work))
    let turn = 0
    const free = [...each]
    return {
      _tag: "Callback",
      send: (done) => {
        const send = free.pop() ?? each[turn++ % sockets]!
        send.send((error, length) => {
          free.push(send)
          done(error, length)
        })
      }
    }
  }
}
