# Serves the ledger with grpcio, without health: python3 service.py PORT IMAGE
import sys
from concurrent import futures

import grpc
from google.protobuf import descriptor_pb2, message_factory

port, image = sys.argv[1:]
with open(image, "rb") as file:
    files = descriptor_pb2.FileDescriptorSet.FromString(file.read())
Entry = message_factory.GetMessages(files.file)["ledger.v1.Entry"]


def count(entry, _):
    entry.amount += 1
    return entry


def up_to(entry, _):
    for n in range(entry.amount):
        entry.amount = n + 1
        yield entry


def talk(entries, _):
    for entry in entries:
        yield count(entry, _)


method = grpc.unary_unary_rpc_method_handler(count, Entry.FromString, Entry.SerializeToString)
server = grpc.server(futures.ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
server.add_generic_rpc_handlers(
    [
        grpc.method_handlers_generic_handler(
            "ledger.v1.LedgerService",
            {
                "Read": method,
                "Post": method,
                "Count": grpc.unary_stream_rpc_method_handler(up_to, Entry.FromString, Entry.SerializeToString),
                "Talk": grpc.stream_stream_rpc_method_handler(talk, Entry.FromString, Entry.SerializeToString),
            },
        )
    ]
)
server.add_insecure_port("127.0.0.1:" + port)
server.start()
server.wait_for_termination()
