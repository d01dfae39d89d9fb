/**
 * What is measured of servers and proxies. Each is a process of its own, asked by the cheapest client that there is; with
 * the upstream of a proxy these are three processes. On a machine with fewer cores they wait for each other, so that what
 * a request costs in processor time says more than how many there are.
 */
import type { Scenario } from "./Scenario.ts"
import {
  direct,
  effectServer,
  fastProxy,
  haproxy,
  httpProxy,
  nginx,
  nodeServer,
  pooled,
  proxy
} from "./servers/index.ts"
import { sockets } from "./Work.ts"

export const serverScenarios: ReadonlyArray<Scenario> = [
  {
    id: "server",
    title: `servers: GET small JSON, ${sockets} callers`,
    work: "small",
    callers: sockets,
    contenders: [effectServer, pooled, nodeServer],
    measures: "servers",
    judged: 2,
    timed: false,
    longer: 1,
    reference: effectServer,
    floors: [{ figure: "rate", relation: ">=", bound: 0.97, of: pooled }]
  },
  {
    id: "proxy",
    title: `proxies: GET small JSON, ${sockets} callers`,
    work: "small",
    callers: sockets,
    contenders: [httpProxy, proxy, fastProxy, nginx, haproxy, direct],
    measures: "servers",
    judged: 2,
    timed: false,
    longer: 1,
    reference: httpProxy,
    floors: [{ figure: "rate", relation: ">=", bound: 1, of: proxy }]
  },
  {
    id: "proxy-latency",
    title: "what proxies add to a GET of small JSON, at 500 requests a second",
    work: "small",
    callers: sockets,
    contenders: [direct, proxy, httpProxy, fastProxy, nginx, haproxy],
    measures: "servers",
    judged: 2,
    timed: true,
    longer: 2,
    reference: direct,
    pace: 500,
    floors: []
  }
]
