// Serves the ledger with connect-node: node service.js http|http2 PORT IMAGE
import * as http from "node:http";
import * as http2 from "node:http2";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { ledger } from "./schema.js";

const [kind, port, image] = process.argv.slice(2);
const count = (entry) => ({ ...entry, amount: entry.amount + 1n });
async function* upTo(entry) {
  for (let n = 1n; n <= entry.amount; n++) yield { ...entry, amount: n };
}
async function* talk(entries) {
  for await (const entry of entries) yield count(entry);
}
const adapter = connectNodeAdapter({
  routes: (router) => router.service(ledger(image), { read: count, post: count, count: upTo, talk }),
});
const server = kind === "http2" ? http2.createServer(adapter) : http.createServer(adapter);
server.listen(Number(port), "127.0.0.1");
