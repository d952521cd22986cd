// Package pb is the envelope of the control protocol as generated from wire.proto; package wire is how to speak it.
package pb

//go:generate go build -o ../../../bin/protoc-gen-go google.golang.org/protobuf/cmd/protoc-gen-go
//go:generate sh -c "GOBIN=$(cd ../../../bin && pwd) go install google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.2"
//go:generate sh -c "cd ../../.. && PATH=$(pwd)/bin:$PATH protoc --go_out=. --go_opt=paths=source_relative --go-grpc_out=. --go-grpc_opt=paths=source_relative control/wire/pb/wire.proto"
