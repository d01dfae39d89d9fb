/** HAProxy in HTTP mode with one thread, and connections to the server that are kept and shared. */
import { program } from "./Program.ts"

export const subject = program({
  command: "haproxy",
  args: (file) => ["-db", "-q", "-f", file],
  config: ({ port, upstream }) => `
global
  nbthread 1
  maxconn 1024
defaults
  mode http
  option http-keep-alive
  http-reuse always
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend bench
  bind 127.0.0.1:${port}
  option forwardfor
  default_backend upstream
backend upstream
  server upstream ${upstream}
`
})
