/** nginx with one worker, and connections to the upstream that are kept. */
import { sockets } from "../Work.ts"
import { program } from "./Program.ts"

const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]

export const subject = program({
  command: "nginx",
  args: (file, { folder }) => ["-p", folder, "-c", file, "-e", "stderr"],
  config: ({ folder, port, upstream }) => `
daemon off;
master_process off;
pid ${folder}/nginx.pid;
error_log stderr crit;
events { worker_connections 1024; }
http {
  access_log off;
  ${temporary.map((name) => `${name}_temp_path ${folder}/${name};`).join("\n  ")}
  keepalive_requests 1000000000;
  upstream bench {
    server ${upstream};
    keepalive ${sockets};
    keepalive_requests 1000000000;
  }
  server {
    listen 127.0.0.1:${port};
    location / {
      proxy_pass http://bench;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    }
  }
}
`
})
