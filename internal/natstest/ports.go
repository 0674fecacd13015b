package natstest

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"
)

// The state of FreePort. Its ports are below those that the kernel gives to outgoing connections,
// so that a port is still free when a server that was down comes back to it. They come in blocks. A
// process owns a block while it listens on the block's first port, and gives each of the others
// once.
const (
	firstPort = 10000
	blockSize = 500
	blocks    = 44
)

var ports struct {
	sync.Mutex
	blocks []net.Listener // that this process owns; they are closed when it ends
	last   int            // the port that was given last
	left   int            // ports of the last block that were not given
}

// FreePort returns a port of loopback that nothing listens on, and that no test was given before.
// It tries by a connection and does not listen itself, because a process that is started at that
// moment would keep its socket open.
func FreePort(t testing.TB) int {
	t.Helper()
	ports.Lock()
	defer ports.Unlock()
	for {
		if ports.left == 0 && !takeBlock() {
			t.Fatal("no port is free: other processes own all blocks")
		}
		ports.left--
		ports.last++
		c, err := net.DialTimeout("tcp", address(ports.last), time.Second)
		if errors.Is(err, syscall.ECONNREFUSED) {
			return ports.last
		}
		if err == nil {
			_ = c.Close()
		}
	}
}

// takeBlock takes a block that no process owns for this process, if there is one.
func takeBlock() bool {
	for b := range blocks {
		first := firstPort + b*blockSize
		if l, err := net.Listen("tcp", address(first)); err == nil {
			ports.blocks = append(ports.blocks, l)
			ports.last, ports.left = first, blockSize-1
			return true
		}
	}
	return false
}

func address(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }
