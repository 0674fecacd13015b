package embedded

import (
	"fmt"
	"net"
	"sync"
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

// FreePort returns a port of loopback that nothing listens on, and that this process was not given
// before. It tries by a connection and does not listen itself, because a process that is started at
// that moment would keep its socket open.
//
// If other processes own all blocks, the kernel chooses a port.
func FreePort() (int, error) {
	ports.Lock()
	defer ports.Unlock()
	for ports.left > 0 || takeBlock() {
		ports.left--
		ports.last++
		c, err := net.DialTimeout("tcp", address(ports.last), time.Second)
		if err != nil {
			return ports.last, nil
		}
		_ = c.Close()
	}
	l, err := net.Listen("tcp", address(0))
	if err != nil {
		return 0, err
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
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
