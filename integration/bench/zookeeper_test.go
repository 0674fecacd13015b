package bench

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/kvregistry/go/internal/natstest"
)

// zooKeeperJar is the path in Debian's package zookeeper. If the package is not installed, the
// benchmarks that need it are skipped.
const zooKeeperJar = "/usr/share/java/zookeeper.jar"

// zooKeeper makes a node of its own on a ZooKeeper, and a connection to it until the benchmark
// ends. Its server ends then too, so that others are not measured beside it. It is warm, because a
// JVM compiles what it does often.
func zooKeeper(b *testing.B, fsync bool) (node string, connect func() *zk.Conn) {
	b.Helper()
	if _, err := os.Stat(zooKeeperJar); err != nil {
		b.Skip("Debian's package zookeeper is not installed")
	}
	address := startZooKeeper(b, fsync)
	connect = func() *zk.Conn {
		c, _, err := zk.Connect([]string{address}, 10*time.Second, zk.WithLogger(quiet{}))
		try(b, err)
		b.Cleanup(c.Close)
		return c
	}
	c, node := connect(), "/web"
	for _, n := range []string{node, "/warm"} {
		_, err := c.Create(n, nil, 0, zk.WorldACL(zk.PermAll))
		try(b, err)
	}
	for i, began := 0, time.Now(); time.Since(began) < 3*time.Second; i++ {
		try(b, ephemeral(c, "/warm", i))
	}
	return node, connect
}

type quiet struct{}

func (quiet) Printf(string, ...any) {}

// startZooKeeper runs a ZooKeeper until the benchmark ends.
func startZooKeeper(b *testing.B, fsync bool) (address string) {
	b.Helper()
	address = fmt.Sprintf("127.0.0.1:%d", natstest.FreePort(b))
	_, port, _ := net.SplitHostPort(address)
	dir := b.TempDir()
	config := filepath.Join(dir, "zoo.cfg")
	text := fmt.Sprintf("tickTime=2000\ndataDir=%s\nclientPort=%s\n"+
		"clientPortAddress=127.0.0.1\nadmin.enableServer=false\n", dir, port)
	try(b, os.WriteFile(config, []byte(text), 0o600))
	force := map[bool]string{false: "no", true: "yes"}[fsync]
	// The shell's input ends when this process does, however that happens.
	cmd := exec.Command("sh", "-c", `java "$@" >/dev/null 2>&1 & read _; kill $!; wait $!`,
		"zookeeper",
		"-Dzookeeper.forceSync="+force, "-cp", zooKeeperJar,
		"org.apache.zookeeper.server.quorum.QuorumPeerMain", config)
	input, err := cmd.StdinPipe()
	try(b, err)
	try(b, cmd.Start())
	b.Cleanup(func() {
		_ = input.Close()
		_ = cmd.Wait() // java's status, which says that it was ended
	})
	natstest.Eventually(b, 30*time.Second, func() error { return serving(address) })
	return address
}

// serving asks a server whether it serves: it listens, and refuses sessions, before it does.
func serving(address string) error {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	if err := c.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	if _, err := c.Write([]byte("srvr")); err != nil {
		return err
	}
	answer, err := io.ReadAll(c)
	if err == nil && !strings.Contains(string(answer), "Mode:") {
		err = fmt.Errorf("it says %q", answer)
	}
	return err
}

// ephemeral makes the node of a numbered service, which lives with its connection.
func ephemeral(c *zk.Conn, node string, i int) error {
	_, err := c.Create(node+"/"+id(i), value(i), zk.FlagEphemeral, zk.WorldACL(zk.PermAll))
	return err
}

// children sends, at first and then whenever they have changed, when a node's children were read.
// It ends with the connection.
func children(b *testing.B, c *zk.Conn, node string) <-chan time.Time {
	b.Helper()
	seen := make(chan time.Time, 1)
	go func() {
		for {
			_, _, changed, err := c.ChildrenW(node)
			if err != nil {
				return
			}
			seen <- time.Now()
			if e := <-changed; e.Err != nil {
				return
			}
		}
	}()
	<-seen
	return seen
}
