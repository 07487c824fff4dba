// The schema of the ledger, from a Buf image.
import { readFileSync } from "node:fs";
import { createFileRegistry, fromBinary } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";

export const ledger = (image) =>
  createFileRegistry(fromBinary(FileDescriptorSetSchema, readFileSync(image))).getService("ledger.v1.LedgerService");
