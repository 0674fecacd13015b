// Program clockserver is a nats-server for a test of the clock: it is built with a standard library
// whose wall clock is off by time.Jump seconds.
//
//	clockserver a-folder
//
// It prints its URL. Each number that it reads on its standard input is how many seconds its clock
// jumps by. It ends with its standard input.
package main

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

func main() {
	s, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: os.Args[1], NoLog: true,
		NoSigs: true,
	})
	if err != nil {
		fmt.Println("failed", err)
		os.Exit(1)
	}
	s.Start()
	if !s.ReadyForConnections(20 * time.Second) {
		fmt.Println("failed: not ready")
		os.Exit(1)
	}
	fmt.Println("ready", s.ClientURL())
	for told := bufio.NewScanner(os.Stdin); told.Scan(); {
		seconds, err := strconv.ParseInt(told.Text(), 10, 64)
		if err != nil {
			fmt.Println("failed", err)
			os.Exit(1)
		}
		time.Jump += seconds
		fmt.Println("jumped", time.Now().Unix())
	}
	s.Shutdown()
	s.WaitForShutdown()
}
