// Calls the ledger with other people's clients: node caller.js GATEWAY IMAGE
// Each line of the input is a call {id, client, method, amount, header}; each line of the output what came of it,
// {id, code, message, amount, task}, where code is 0 or the number of a gRPC status.
import { createInterface } from "node:readline";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { ConnectError, createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport } from "@connectrpc/connect-node";
import grpc from "@grpc/grpc-js";
import { ledger } from "./schema.js";

const [baseUrl, image] = process.argv.slice(2);
const service = ledger(image);
const Entry = service.methods[0].input;

// What comes of a stream is the sum of its amounts. Two entries are sent in a conversation.
async function* twice(entry) {
  yield entry;
  yield entry;
}
const sum = async (entries) => {
  let total = 0;
  for await (const entry of entries) total += Number(entry.amount);
  return total;
};

const viaConnect = (transport) => {
  const client = createClient(service, transport);
  return async ({ method, amount, header }) => {
    let task = "";
    const note = (headers) => (task ||= headers.get("holdline-task")?.split(", ")[0] ?? ""); // an error has headers and trailers in one
    try {
      const options = { headers: header, onHeader: note, onTrailer: note, timeoutMs: 60_000 };
      const entry = create(Entry, { amount: BigInt(amount) });
      if (method === "Count") return { code: 0, amount: await sum(client.count(entry, options)), task };
      if (method === "Talk") return { code: 0, amount: await sum(client.talk(twice(entry), options)), task };
      const answer = await client[method.toLowerCase()](entry, options);
      return { code: 0, amount: Number(answer.amount), task };
    } catch (error) {
      const { code, rawMessage: message, metadata } = ConnectError.from(error);
      note(metadata);
      return { code, message, task };
    }
  };
};

const viaGrpcJs = () => {
  const client = new grpc.Client(new URL(baseUrl).host, grpc.credentials.createInsecure());
  return ({ method, amount, header }) =>
    new Promise((resolve) => {
      let task = "";
      const note = (metadata) => (task ||= metadata.get("holdline-task")[0] ?? "");
      const metadata = new grpc.Metadata();
      for (const [key, value] of Object.entries(header)) metadata.set(key, value);
      const path = `/${service.typeName}/${method}`;
      const write = (entry) => Buffer.from(toBinary(Entry, entry));
      const read = (bytes) => fromBinary(Entry, bytes);
      const entry = create(Entry, { amount: BigInt(amount) });
      const options = { deadline: Date.now() + 60_000 };
      if (method === "Count" || method === "Talk") {
        let stream;
        if (method === "Count") stream = client.makeServerStreamRequest(path, write, read, entry, metadata, options);
        else {
          stream = client.makeBidiStreamRequest(path, write, read, metadata, options);
          stream.write(entry);
          stream.write(entry);
          stream.end();
        }
        sum(stream).then(
          (total) => resolve({ code: 0, amount: total, task }),
          (error) => resolve({ code: error.code, message: error.details, task }),
        );
        return;
      }
      const call = client.makeUnaryRequest(
        path,
        write,
        read,
        entry,
        metadata,
        options,
        (error, entry) => {
          if (error?.metadata) note(error.metadata);
          resolve(error ? { code: error.code, message: error.details, task } : { code: 0, amount: Number(entry.amount), task });
        },
      );
      call.on("metadata", note);
    });
};

const clients = {
  "connect-node/1.1": viaConnect(createConnectTransport({ baseUrl, httpVersion: "1.1" })),
  "connect-node/2": viaConnect(createConnectTransport({ baseUrl, httpVersion: "2", useBinaryFormat: true })),
  "connect-node/grpc": viaConnect(createGrpcTransport({ baseUrl })),
  "grpc-web": viaConnect(createGrpcWebTransport({ baseUrl, httpVersion: "1.1" })),
  "grpc-js": viaGrpcJs(),
};

const lines = createInterface({ input: process.stdin });
lines.on("line", async (line) => {
  const call = JSON.parse(line);
  console.log(JSON.stringify({ id: call.id, ...(await clients[call.client](call)) }));
});
lines.on("close", () => process.exit(0));
