module holdline

go 1.26.8

tool (
	connectrpc.com/connect/v2/cmd/protoc-gen-connect-go
	google.golang.org/protobuf/cmd/protoc-gen-go
)

require (
	connectrpc.com/connect/v2 v2.0.2
	github.com/oklog/ulid/v2 v2.1.2
	google.golang.org/protobuf v1.36.12
)
