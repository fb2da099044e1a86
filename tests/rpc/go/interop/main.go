// Command interop is grpc-go's client or server of gRPC's interoperability cases, without what needs a cloud.
//
//	interop server [CERTIFICATE KEY]        prints its port, serves until its stdin ends
//	interop client PORT AUTHORITY|- CASE    exits with 0 if the case holds
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/interop"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
)

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func serve(files []string) {
	var options []grpc.ServerOption
	if len(files) == 2 {
		found, err := credentials.NewServerTLSFromFile(files[0], files[1])
		check(err)
		options = append(options, grpc.Creds(found))
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	server := grpc.NewServer(options...)
	testgrpc.RegisterTestServiceServer(server, interop.NewTestServer())
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	go func() {
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	check(server.Serve(listener))
}

func call(port, authority, name string) {
	security := insecure.NewCredentials()
	if authority != "-" {
		found, err := credentials.NewClientTLSFromFile(authority, "localhost")
		check(err)
		security = found
	}
	connection, err := grpc.NewClient("127.0.0.1:"+port, grpc.WithTransportCredentials(security))
	check(err)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	client := testgrpc.NewTestServiceClient(connection)
	cases := map[string]func(){
		"empty_unary":                 func() { interop.DoEmptyUnaryCall(ctx, client) },
		"large_unary":                 func() { interop.DoLargeUnaryCall(ctx, client) },
		"client_streaming":            func() { interop.DoClientStreaming(ctx, client) },
		"server_streaming":            func() { interop.DoServerStreaming(ctx, client) },
		"ping_pong":                   func() { interop.DoPingPong(ctx, client) },
		"empty_stream":                func() { interop.DoEmptyStream(ctx, client) },
		"timeout_on_sleeping_server":  func() { interop.DoTimeoutOnSleepingServer(ctx, client) },
		"cancel_after_begin":          func() { interop.DoCancelAfterBegin(ctx, client) },
		"cancel_after_first_response": func() { interop.DoCancelAfterFirstResponse(ctx, client) },
		"status_code_and_message":     func() { interop.DoStatusCodeAndMessage(ctx, client) },
		"special_status_message":      func() { interop.DoSpecialStatusMessage(ctx, client) },
		"custom_metadata":             func() { interop.DoCustomMetadata(ctx, client) },
		"unimplemented_method":        func() { interop.DoUnimplementedMethod(ctx, connection) },
		"unimplemented_service": func() {
			interop.DoUnimplementedService(ctx, testgrpc.NewUnimplementedServiceClient(connection))
		},
		"pick_first_unary": func() { interop.DoPickFirstUnary(ctx, client) },
	}
	run, known := cases[name]
	if !known {
		check(fmt.Errorf("there is no case %s", name))
	}
	run()
	check(connection.Close())
}

func main() {
	switch {
	case len(os.Args) >= 2 && os.Args[1] == "server":
		serve(os.Args[2:])
	case len(os.Args) == 5 && os.Args[1] == "client":
		call(os.Args[2], os.Args[3], os.Args[4])
	default:
		check(fmt.Errorf("usage: %s server [CERTIFICATE KEY] | client PORT AUTHORITY|- CASE", os.Args[0]))
	}
}
