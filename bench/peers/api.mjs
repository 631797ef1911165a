// The part of the control API that the bench's load uses, on a unix socket: reads requests, finds
// the handler, writes answers and problem documents. Used by the gateways, which know their SFU;
// keeps no state of its own. Ends with the standard input, so that a killed bench leaves nothing.

import { createServer } from "node:http";

/** What a handler throws to answer with anything but success. */
export class Problem extends Error {
  constructor(status, code, detail) {
    super(detail);
    this.status = status;
    this.code = code;
  }
}

/** An entry of a map, or "not found". */
export function found(map, id, what) {
  const entry = map.get(id);
  if (entry === undefined) throw new Problem(404, "not_found", `no ${what} ${id}`);
  return entry;
}

/** Options of the command line, `--name value`. */
export function options() {
  const words = process.argv.slice(2);
  const all = new Map();
  for (let at = 0; at + 1 < words.length; at += 2) all.set(words[at].replace(/^--/, ""), words[at + 1]);
  return Object.fromEntries(all);
}

/** `handlers`: "METHOD /path/{id}" -> async (body, id, query) => answer. Says "ready" on the output. */
export function serve(socket, handlers) {
  const routes = Object.entries(handlers).map(([name, handler]) => {
    const [method, path] = name.split(" ");
    return { method, path: new RegExp(`^/v1${path.replace("{id}", "([^/]+)")}$`), handler };
  });
  const server = createServer((request, response) => {
    answer(routes, request).then(
      ({ status, body }) => write(response, status, "application/json", body),
      (error) => {
        const status = error.status ?? 500;
        const body = { status, code: error.code ?? "peer_failed", detail: error.message };
        write(response, status, "application/problem+json", body);
      },
    );
  });
  server.listen(socket, () => console.log("ready"));
  process.stdin.resume();
  process.stdin.on("end", () => process.exit(0));
}

async function answer(routes, request) {
  const url = new URL(request.url, "http://localhost");
  const text = [];
  for await (const part of request) text.push(part);
  const body = text.length > 0 ? JSON.parse(Buffer.concat(text).toString()) : {};
  for (const { method, path, handler } of routes) {
    const match = request.method === method && path.exec(url.pathname);
    if (match) return made(method, await handler(body, match[1], url.searchParams));
  }
  throw new Problem(404, "not_found", `${request.method} ${url.pathname} is not offered here`);
}

function made(method, body) {
  if (body === undefined) return { status: 204 };
  return { status: method === "POST" ? 201 : 200, body };
}

function write(response, status, type, body) {
  if (body === undefined) return response.writeHead(status).end();
  response.writeHead(status, { "content-type": type }).end(JSON.stringify(body));
}
