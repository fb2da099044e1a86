// Command board drives a board with nothing but stubs that are generated from Jumpstarter's .proto files.
//
//	board TARGET [AUTHORITY PASSPHRASE]    switches on, reads, talks to the network device; prints JSON
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
)

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	secure := insecure.NewCredentials()
	if len(os.Args) == 4 {
		var err error
		secure, err = credentials.NewClientTLSFromFile(os.Args[2], "")
		check(err)
		ctx = metadata.AppendToOutgoingContext(ctx, "x-jumpstarter-passphrase", os.Args[3])
	}
	channel, err := grpc.NewClient(os.Args[1], grpc.WithTransportCredentials(secure))
	check(err)
	defer channel.Close()

	power := NewPowerInterfaceClient(channel)
	_, err = power.On(ctx, &emptypb.Empty{})
	check(err)
	readings, err := power.Read(ctx, &emptypb.Empty{})
	check(err)
	volts := []float64{}
	for {
		reading, err := readings.Recv()
		if err == io.EOF {
			break
		}
		check(err)
		volts = append(volts, reading.Voltage)
	}
	wait := -1.0
	_, err = power.Cycle(ctx, &CycleRequest{Wait: &wait})
	refusal := status.Convert(err)

	stream, err := NewNetworkInterfaceClient(channel).Connect(ctx)
	check(err)
	check(stream.Send(&StreamData{Payload: []byte("hello")}))
	check(stream.CloseSend())
	echo := ""
	for {
		data, err := stream.Recv()
		if err == io.EOF {
			break
		}
		check(err)
		echo += string(data.Payload)
	}
	check(json.NewEncoder(os.Stdout).Encode(map[string]any{
		"read": volts, "bad_cycle": []string{refusal.Code().String(), refusal.Message()}, "echo": echo,
	}))
}
