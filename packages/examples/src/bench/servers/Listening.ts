/** Where a server of Node listens: on loopback, at a port that the system chooses. */
import type { AddressInfo, Server } from "node:net"

export const portOf = (server: Server): number => (server.address() as AddressInfo).port

export const listen = (server: Server): Promise<{ readonly port: number }> =>
  new Promise((resolve, reject) => {
    server.once("error", reject)
    server.listen(0, "127.0.0.1", () => resolve({ port: portOf(server) }))
  })
